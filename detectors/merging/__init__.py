"""Merges boxes that show the same thing, also across the edges of tiles."""
