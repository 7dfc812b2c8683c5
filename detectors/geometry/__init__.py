"""Computes with boxes, quadrilaterals and polygons on arrays: pure functions, no I/O."""
