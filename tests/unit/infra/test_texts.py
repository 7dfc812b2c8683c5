"""Checks texts with numbers, and long values."""

from __future__ import annotations

from infra.texts import counted, shortened


def test_a_count_chooses_singular_or_plural() -> None:
    assert (counted(0, "record"), counted(1, "record"), counted(2, "record")) == ("0 records", "1 record", "2 records")
    assert (counted(1, "try", "tries"), counted(2, "try", "tries")) == ("1 try", "2 tries")


def test_a_long_value_keeps_beginning_and_end_and_states_its_length() -> None:
    assert shortened("x" * 200) == "x" * 200
    short = "begin" + "x" * 18 + " … (100,008 characters) … " + "x" * 8 + "end"
    assert shortened("begin" + "x" * 100_000 + "end", 60) == short
    assert {len(shortened("x" * length)) for length in range(201, 2_000, 100)} == {200}
