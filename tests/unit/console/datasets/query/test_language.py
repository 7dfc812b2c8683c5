"""Queries of data sets: what they mean, and how wrong ones are refused."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from console.datasets.errors import DatasetQueryError
from console.datasets.query.language import All, Any, Comparison, Not, parse_query
from console.datasets.query.statement import write_statement


def test_and_binds_more_strongly_than_or() -> None:
    found = parse_query("label = bird and confidence >= 0.5 or not device = 'cam 1'")
    assert found == Any(
        (
            All((Comparison("label", "=", ("bird",)), Comparison("confidence", ">=", (0.5,)))),
            Not(Comparison("device", "=", ("cam 1",))),
        )
    )


def test_values_are_read_by_the_kind_of_their_field() -> None:
    found = parse_query('Time >= 2026-05-01T02:00:00+02:00 AND (corrected = TRUE AND label in ("a ""b""", and2, 7))')
    assert found == All(
        (
            Comparison("time", ">=", (datetime(2026, 5, 1, tzinfo=UTC),)),
            All((Comparison("corrected", "=", (True,)), Comparison("label", "in", ('a "b"', "and2", "7")))),
        )
    )


def test_between_and_not_in() -> None:
    assert parse_query("boxes between 1 and 5") == All(
        (Comparison("boxes", ">=", (1,)), Comparison("boxes", "<=", (5,)))
    )
    assert parse_query("flight not in (a,b)") == Not(Comparison("flight", "in", ("a", "b")))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "--where is empty"),
        ("bird", "at character 1, 'bird': expected a field"),
        ("label", "at its end: expected one of = !="),
        ("colour = red", "at character 1, 'colour': expected a field: device, flight"),
        ("label = bird; DROP TABLE images", "at character 15, 'DROP': expected and, or"),
        ("label = bird -- comment", "at character 14, '--': expected and, or"),
        ("label = 'bird", 'at character 9, "\'bird": begins a text that has no end'),
        ("label < bird", "label takes = , != and in only"),
        ("confidence > 1.5", "confidence takes a number from 0 to 1"),
        ("confidence > nan", "confidence takes a number"),
        ("confidence >= 0.5 and", "at its end: expected a field"),
        ("boxes = -1", "boxes takes how many boxes"),
        ("boxes = ٣", "boxes takes how many boxes"),
        ("width = 99999999999", "width takes a whole number"),
        ("time > yesterday", "time takes a date or time"),
        ("corrected = 1", "corrected takes true or false"),
        ("label in bird", "expected ( after in"),
        ("label in (bird", "at its end: expected , or )"),
        ("(label = bird", "at its end: expected and, or, or )"),
        ("label = and", "expected a word"),
        ("label not = bird", "expected in or between after not"),
        ("label = 'a\0b'", "it holds a null character"),
        ("label = a\udcff", "it holds half of a character"),
        ("time between 2026-01-01 or 2026-02-01", "expected and: between LOW and HIGH"),
        ("label = !", "at character 9, '!': cannot be read"),
        ("not " * 40 + "width = 1", "more than 30"),
        ("(" * 40, "more than 30"),
        (" or ".join(["width = 1"] * 201), "at most 200 comparisons"),
        (f"label in ({','.join(['x'] * 1_001)})", "at most 1000 values"),
        (f"label = {'x' * 20_001}", "has 20,009 characters"),
    ],
)
def test_wrong_queries_are_refused_with_their_place(text: str, message: str) -> None:
    with pytest.raises(DatasetQueryError) as caught:
        parse_query(text)
    assert message in str(caught.value)


def test_statement_has_values_as_parameters_only() -> None:
    hostile = "x'; DROP TABLE images; --"
    quoted = hostile.replace("'", "''")
    statement = write_statement(parse_query(f"label = '{quoted}' or not device in ('{quoted}', b)"), "finder", None)
    assert "DROP" not in statement.text
    assert statement.values == ["finder", None, False, hostile, [hostile, "b"]]
    assert "(b.label = $4::text) OR (NOT (d.device_id = ANY($5::text[])))" in statement.text
