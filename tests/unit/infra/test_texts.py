"""Checks texts with numbers."""

from __future__ import annotations

from infra.texts import counted


def test_a_count_chooses_singular_or_plural() -> None:
    assert (counted(0, "record"), counted(1, "record"), counted(2, "record")) == ("0 records", "1 record", "2 records")
    assert (counted(1, "try", "tries"), counted(2, "try", "tries")) == ("1 try", "2 tries")
