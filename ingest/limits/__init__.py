"""Limits what clients may send: by rate, for each device and address, and by how far the detectors are behind."""
