"""Consumes from the embedded broker as a member of a group, and keeps the groups in the file."""
