"""Reads and writes the SQLite file of the embedded broker."""
