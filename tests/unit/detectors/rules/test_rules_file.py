"""Checks what rules files are refused, by size and content, before an engine sees them."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from detectors.rules.rules_file import LARGEST_BYTES, MOST_CLAUSES, RulesError, parse_rules, read_rules

GOOD = b"rule(small, D, drop) :- length_px(D, L), L < 9.\n"


def refusal(content: bytes) -> str:
    with pytest.raises(RulesError) as caught:
        parse_rules(content, "cows.pl")
    return str(caught.value)


def test_a_file_of_10_mb_is_refused_unread(tmp_path: Path) -> None:
    path = tmp_path / "big.pl"
    path.write_bytes(GOOD * (10_000_000 // len(GOOD)))
    with pytest.raises(RulesError, match=f"at most {LARGEST_BYTES:,} are taken"):
        read_rules(path)


def test_content_above_the_limit_is_refused() -> None:
    assert "at most" in refusal(b"%" * (LARGEST_BYTES + 1))


def test_more_clauses_than_the_limit_are_refused_with_the_line() -> None:
    assert f"line {MOST_CLAUSES + 1}, column 1: {MOST_CLAUSES + 1:,} clauses" in refusal(b"p.\n" * MOST_CLAUSES + GOOD)


def test_text_that_is_not_utf_8_is_refused_with_its_line() -> None:
    assert "line 2: is not UTF-8" in refusal(GOOD + b"% \xff\n")


def test_a_byte_order_mark_is_ignored() -> None:
    assert parse_rules(b"\xef\xbb\xbf" + GOOD, "a.pl").warnings == ()


def test_a_missing_file_and_a_folder_are_named(tmp_path: Path) -> None:
    with pytest.raises(RulesError, match="No such file"):
        read_rules(tmp_path / "a.pl")
    with pytest.raises(RulesError, match="it is a folder"):
        read_rules(tmp_path)


def test_errors_name_at_most_five_places_and_count_the_rest() -> None:
    text = refusal(b"p(D) :- shell(D).\n" * 8 + GOOD)
    assert "line 1, column 9: shell/1 is not available: rules reach no program" in text
    assert text.endswith("; and 3 more")


def test_syntax_errors_hide_what_follows_from_them() -> None:
    assert refusal(b"night( :- a.\n" + b"rule(a, D, drop) :- night(D).\n").count("line ") == 2


def test_the_same_content_has_the_same_digest() -> None:
    one, other = parse_rules(GOOD, "a.pl"), parse_rules(GOOD, "b.pl")
    assert one.digest == other.digest
    assert one.digest != parse_rules(GOOD + b"% more\n", "a.pl").digest


def test_a_file_of_the_largest_size_is_checked_within_seconds() -> None:
    line = b"rule(r, D, drop) :- label(D, cow), length_px(D, L), L < 9.\n"
    rules = parse_rules(line * MOST_CLAUSES, "a.pl")
    assert len(rules.program.rules) == MOST_CLAUSES


@pytest.mark.parametrize(
    "text",
    [
        "".join(f"predicate_nr_{n}(X) :- predicate_nm_{n}(X).\n" for n in range(900))
        + "rule(a, D, drop) :- true"
        + ", predicate_nq(D)" * 140
        + ".\n",
        "".join(f"rule(a, D, drop) :- X is {', '.join(f'foo{n}_{m}(1)' for m in range(140))}.\n" for n in range(100)),
    ],
)
def test_thousands_of_unknown_names_are_refused_in_a_second_of_work(text: str) -> None:
    start = time.process_time()
    assert "and " in refusal(text.encode())
    assert time.process_time() - start < 2.0


@pytest.mark.parametrize(
    "body",
    [f"'{'detect' * 20_000}'(D)", f"X{'x' * 200_000}", f"X is {'floor' * 40_000}", f"X = 1{'0' * 200_000}.0"],
    ids=["predicate", "variable", "function", "number"],
)
def test_errors_repeat_no_name_of_a_quarter_of_a_million_characters(body: str) -> None:
    assert len(refusal(f"rule(a, D, drop) :- {body}.".encode())) < 500
