"""Writes numbers and long values for people: a count with its noun, and a value with its middle left out."""

from __future__ import annotations


def counted(count: int, noun: str, plural: str | None = None) -> str:
    """Return ``count`` with ``noun`` in singular or plural (default: with an s), as "1 record" and "2 records"."""
    return f"{count} {noun if count == 1 else plural or f'{noun}s'}"


LONGEST_VALUE = 200
"""How many characters of a value that a user has given an error repeats."""


def shortened(text: str, most: int = LONGEST_VALUE) -> str:
    """Return ``text``; of one longer than ``most`` characters its beginning, its end, and how many it has."""
    if len(text) <= most:
        return text
    note = f" … ({len(text):,} characters) … "
    kept = most - len(note)
    return f"{text[: kept - kept // 3]}{note}{text[len(text) - kept // 3 :]}"


def printable(text: str) -> str:
    """Return ``text`` without lone surrogates, which names of files may have and JSON and UTF-8 have not."""
    return text.encode(errors="backslashreplace").decode()
