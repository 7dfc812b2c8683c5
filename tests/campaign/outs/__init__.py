"""Breaks everything that sinks write to, kills each sink, and accounts for every frame in every sink afterwards."""
