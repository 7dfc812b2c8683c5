"""Defines the contracts that all packages share: events, geometry, topics, and the documents generated from them."""
