"""Defines errors of requests, and turns any error into a response with one body, a stable code and a page about it."""
