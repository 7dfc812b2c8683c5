"""Keeps secrets of others encrypted in the database: what must be read again, and so cannot be a hash."""
