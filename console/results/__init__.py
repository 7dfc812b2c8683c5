"""Gives back what jobs found: as data, label files and drawn pictures, and compares two jobs."""
