"""Decodes pictures, and draws detections over them."""
