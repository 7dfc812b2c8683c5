"""Runs frames through decoding, tiling, engine and merging in threads, and knows which model takes which frame."""
