"""Limits what each client of an HTTP API may have: requests in a minute, uploads in progress, and turns to read."""
