"""Loads a model from its card, checks it, and detects with it."""
