"""Frames become detections: tiling, engines, heads, merging, model cards and the worker."""
