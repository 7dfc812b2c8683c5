"""Measures the ways to run a model on this machine, and keeps the results."""
