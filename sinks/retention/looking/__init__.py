"""Finds what may be removed: what groups have read, what rows and pictures there are, and what the policy says."""
