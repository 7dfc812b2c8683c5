"""Watches a folder into which cameras or other programs write pictures."""
