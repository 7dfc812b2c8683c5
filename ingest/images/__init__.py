"""Recognises the format of an encoded image, checks it, and reads its metadata."""
