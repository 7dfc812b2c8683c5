"""Engines: what runs a model's graph, each behind the same small port."""
