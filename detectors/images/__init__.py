"""Decodes images, and draws detections on them."""
