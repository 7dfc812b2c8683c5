"""Writes numbers for people: a count with its noun in singular or plural."""

from __future__ import annotations


def counted(count: int, noun: str, plural: str | None = None) -> str:
    """Return ``count`` with ``noun`` in singular or plural (default: with an s), as "1 record" and "2 records"."""
    return f"{count} {noun if count == 1 else plural or f'{noun}s'}"
