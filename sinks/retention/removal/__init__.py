"""Removes what was written down to be removed; any step may be killed and is done again."""
