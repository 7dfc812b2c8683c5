"""Decides whether the gateway is ready, by the outcome of real work."""
