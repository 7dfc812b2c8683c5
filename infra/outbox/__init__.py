"""Keeps events in the database until they are published: an event leaves if, and only if, its change is kept."""
