"""Reads the pixels of TIFF files without a library for rasters, and turns values of any kind into uint8 colours."""
