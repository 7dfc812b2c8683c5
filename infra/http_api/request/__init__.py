"""Receives the bodies of requests piece by piece, within limits, and splits forms into their parts."""
