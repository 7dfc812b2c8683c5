"""Detects pictures and videos of other services, and streams what is found in them as server-sent events."""
