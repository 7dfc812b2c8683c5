"""Detections go out: PostgreSQL and server-sent events; one small class per sink."""
