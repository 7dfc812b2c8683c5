"""Checks how terms are written for engines."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from detectors.rules.language.reader import read_clauses
from detectors.rules.language.terms import Atom, write_atom, write_number


@given(st.text())
def test_write_atom_is_read_back_as_the_same_text(text: str) -> None:
    clauses, errors = read_clauses(f"p({write_atom(text)}).")
    assert errors == []
    ((read,),) = (one.head.arguments for one in clauses)  # type: ignore[union-attr]
    expected = "".join("\ufffd" if one == "\0" or "\ud800" <= one <= "\udfff" else one for one in text)
    assert isinstance(read, Atom)
    assert read.name == expected


@pytest.mark.parametrize(
    ("value", "text"),
    [(3, "3"), (-3, "(-3)"), (0.5, "0.5"), (1e-7, "1.0e-07"), (1e22, "1.0e+22"), (-2.5, "(-2.5)"), (2.0, "2.0")],
)
def test_write_number_has_a_digit_on_both_sides_of_the_point(value: float, text: str) -> None:
    assert write_number(value) == text


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_write_number_refuses_what_is_no_number(value: float) -> None:
    with pytest.raises(ValueError, match="no number"):
        write_number(value)
