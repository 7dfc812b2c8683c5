"""Tells what an encoded image is, and reads its metadata, from its bytes alone."""
