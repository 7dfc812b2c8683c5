"""Cuts pictures into tiles and scales tiles to a model's input."""
