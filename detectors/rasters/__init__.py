"""Reads pictures too large for memory, (Geo)TIFF files, by window, and finds where on the ground their pixels are."""
