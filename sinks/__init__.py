"""Writes detections to places outside: PostgreSQL and server-sent events."""
