"""Keeps the state of each partition: its queue, its duplicate window, its holds and commits."""
