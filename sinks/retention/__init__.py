"""Removes frames by age and by total size: their bytes, their place in the archive and their rows, together."""
