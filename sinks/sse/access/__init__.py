"""Decides who may follow the live stream, and what each client sees of it."""
