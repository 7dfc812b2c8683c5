"""Writes detections into PostgreSQL, each frame and each detection once."""
