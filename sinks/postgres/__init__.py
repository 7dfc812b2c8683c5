"""Detections go into PostgreSQL, each frame and each detection once."""
