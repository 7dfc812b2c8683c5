"""Holds what all HTTP APIs have: errors, limits of clients, bodies of requests, versions and pages."""
