"""Merges boxes that show the same object, also across the edges of tiles."""
