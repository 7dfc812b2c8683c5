"""Reads what the server says after a statement."""

from __future__ import annotations


def rows_changed(done: str) -> int:
    """Return how many rows a statement changed, of which the server said ``done``, such as "DELETE 3"."""
    return int(done.rpartition(" ")[2])
