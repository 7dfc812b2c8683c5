"""Pulls the cameras that the database lists, shared out over all processes that do so: each by one at a time."""
