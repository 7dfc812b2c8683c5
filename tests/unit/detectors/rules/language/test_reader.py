"""Checks that clauses are read as Prolog's standard says, and that errors name their place."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from detectors.rules.language.checks import check_clauses
from detectors.rules.language.reader import read_clauses
from detectors.rules.language.terms import Place, write_term


def read(text: str) -> str:
    clauses, errors = read_clauses(text)
    assert errors == []
    (clause,) = clauses
    assert clause.head is not None
    return write_term(clause.head)


@pytest.mark.parametrize(
    ("text", "written"),
    [
        ("p(X, _, _).", "'p'(X,_0_,_1_)"),
        ("1 + 2 * 3 - 4.", "'-'('+'(1,'*'(2,3)),4)"),
        ("- 1.", "'-'(1)"),
        ("-1.", "(-1)"),
        ("-(1).", "'-'(1)"),
        ("a - -1.", "'-'('a',(-1))"),
        ("2 ** 3.", "'**'(2,3)"),
        ("2 ^ 3 ^ 4.", "'^'(2,'^'(3,4))"),
        ("(a, b ; c -> d ; e).", "';'(','('a','b'),';'('->'('c','d'),'e'))"),
        ("\\+ a = b.", "'\\\\+'('='('a','b'))"),
        ("\\+ (a, b).", "'\\\\+'(','('a','b'))"),
        ("X is Y mod 3.", "'is'(X,'mod'(Y,3))"),
        ("[a, b|T].", "['a','b'|T]"),
        ("[a|[b, c]].", "['a','b','c']"),
        ("[].", "[]"),
        ("f(-).", "'f'('-')"),
        ("f(- , a).", "'f'('-','a')"),
        ("[-].", "['-']"),
        ("- = x.", "'='('-','x')"),
        ("f(:- , ;, !).", "'f'(':-',';','!')"),
        ("'it''s' = \"a b\".", "'='('it\\'s','a b')"),
        ("'a\\x41\\\\n\\\\'.", "'aA\\xa\\\\\\'"),
        ("0'a + 0''' + 0'\\n + 0x1F + 0b101 + 0o17.", "'+'('+'('+'('+'('+'(97,39),10),31),5),15)"),
        ("1.5e3 + 1.0.", "'+'(1500.0,1.0)"),
        ("a:-b.", "'a'"),
        ("/* no */ p % yes\n.", "'p'"),
        ("größe(ä).", "'größe'('ä')"),
        ("p:-X=..Y.", "'p'"),
    ],
)
def test_read_clauses_returns_the_terms_of_the_standard(text: str, written: str) -> None:
    assert read(text) == written


@pytest.mark.parametrize(
    ("text", "line", "column", "part"),
    [
        ("p :-\n  q r.", 2, 5, "operator or a comma is missing"),
        ("p :- q(a, b.", 1, 11, "still open: ) is missing"),
        ("p :- [a, b.", 1, 10, "still open: ] is missing"),
        ("p :- q(.", 1, 7, "ends too early"),
        ("p :- ), q.", 1, 6, "does not fit here"),
        ("p :- 'abc.\nq.", 1, 6, "no end in its line"),
        ("p :- q", 1, 1, "ends with a period"),
        ("/* p.", 1, 1, "no end"),
        ("p :- {a}.", 1, 6, "braces"),
        ("p :- `a`.", 1, 6, "back quotes"),
        ("p --> q.", 1, 3, "grammar rules"),
        ("p(12ab).", 1, 3, "no number"),
        (f"p({10**30}).", 1, 3, "too large"),
        ("p(1.0e999).", 1, 3, "too large"),
        ("p('\\q').", 1, 4, "no character"),
        ("p('\\xd800\\').", 1, 4, "no character"),
        (f"p({'(' * 200}a{')' * 200}).", 1, 102, "terms in each other"),
        (f"p :- {'a, ' * 300}b.", 1, 454, "terms joined"),
        (f"p({'1+' * 5_000}1).", 1, 9707, "terms joined"),
        (". p.", 1, 1, "without a clause"),
        ("p(a:-b).", 1, 4, "still open"),
        ("p(Größe).", 1, 3, "no variable"),
        ("p(\x00).", 1, 3, "no meaning"),
    ],
)
def test_syntax_errors_name_line_column_and_reason(text: str, line: int, column: int, part: str) -> None:
    _, errors = read_clauses(text)
    assert errors[0].place == Place(line, column)
    assert part in errors[0].text


def test_after_a_syntax_error_the_next_clauses_are_read() -> None:
    clauses, errors = read_clauses("a b.\nc :- 'd.\ne.\nf(.\ng.\n")
    assert [error.place.line for error in errors] == [1, 2, 4]
    assert [write_term(one.head) for one in clauses if one.head is not None] == ["'e'", "'g'"]


def test_directives_have_no_head() -> None:
    clauses, errors = read_clauses(":- dynamic foo/1.\n?- halt.")
    assert errors == []
    assert [one.head for one in clauses] == [None, None]


@given(st.text(st.sampled_from("aA_0'\"\\().,[]|{}%/*:-+;!<= \n\x000x"), max_size=80))
def test_any_text_is_read_or_refused_with_places_in_it(text: str) -> None:
    clauses, errors = read_clauses(text)
    lines = text.count("\n") + 1
    assert all(1 <= one.place.line <= lines for one in (*clauses, *errors))
    for clause in clauses:
        for term in (clause.head, clause.body):
            assert term is None or write_term(term)
    check_clauses(clauses)


@pytest.mark.parametrize(
    "text", ["(" * 50_000, "[" * 50_000, "- " * 50_000, "a:-" * 5_000, "f(" * 50_000, "'" * 50_001]
)
def test_text_that_nests_without_end_is_refused(text: str) -> None:
    _, errors = read_clauses(f"{text}.\np.")
    assert errors


def test_long_lists_and_files_are_read_without_recursion() -> None:
    clauses, errors = read_clauses(f"p([{','.join(map(str, range(20_000)))}]).")
    assert errors == []
    assert len(clauses) == 1
