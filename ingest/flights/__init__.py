"""Keeps the flights of devices: what was announced, what arrived, and what became of it."""
