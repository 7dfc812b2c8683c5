"""Reads what the header of a TIFF file says, and decides who can read its pixels; gateway and detectors ask here."""
