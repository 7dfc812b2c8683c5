"""Runs frames through decoding, tiling, engine and merging in threads, side by side."""
