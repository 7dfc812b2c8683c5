"""Serves what was counted in each minute of each device."""
