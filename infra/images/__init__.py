"""Reads from an image's header what both the gateway and the detectors must know before anything is decoded."""
