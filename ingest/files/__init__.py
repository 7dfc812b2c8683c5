"""Reads what belongs to a picture in a file: its capture time, and its side file."""
