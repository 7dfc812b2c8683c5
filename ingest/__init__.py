"""Receives frames: the gateway, and the parsers of images and their metadata."""
