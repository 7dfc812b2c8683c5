"""Lets hundreds of random faults hit a running fleet, and accounts for every frame at the end."""
