"""Runs a fleet through hundreds of random faults and accounts for every accepted frame at the end."""
