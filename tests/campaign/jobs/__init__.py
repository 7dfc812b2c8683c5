"""Runs campaigns of jobs: many at once, and one whose processes and servers are killed."""
