"""Frames come in: the gateway, its validation and the geometry read from pictures."""
