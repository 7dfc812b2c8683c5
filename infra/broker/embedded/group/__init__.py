"""Consumes from the embedded broker as a member of a group."""
