"""Connects to addresses that come from users, and only to those that the operator allows."""
