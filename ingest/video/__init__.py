"""Reads files, HTTP addresses and RTSP cameras, and hands selected frames to the acceptance as JPEG."""
