"""Starts, watches and ends the process of a service; reads its settings."""
