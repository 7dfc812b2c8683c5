"""Writes logs and traces, measures HTTP requests, and holds the rules of all metrics."""
