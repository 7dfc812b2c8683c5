"""Checks the program that is made of rules: names of its own, and the line of each rule."""

from __future__ import annotations

from detectors.rules.language.program import make_program
from detectors.rules.language.reader import read_clauses


def program_of(text: str) -> list[str]:
    clauses, errors = read_clauses(text)
    assert errors == []
    return make_program(clauses).text.splitlines()


def test_own_predicates_and_facts_get_names_that_no_engine_has() -> None:
    lines = program_of("p(X) :- q, near_px(X, _, 3), maplist(p, []), call(label(X), Y), Y == cow.\nq.")
    assert lines == [
        "'own p'(X) :- ','('own q',','('fact near_px'(X,_0_,3),','('maplist'('own p',[]),"
        "','('call'('fact label'(X),Y),'=='(Y,'cow'))))).",
        "'own q'.",
    ]


def test_rules_note_that_they_are_tried_and_take_facts_from_their_detection() -> None:
    (line,) = program_of("rule(small, D, drop) :- label(D, cow), label(E, L), confidence(D, L), E = D.")
    assert line == (
        "'the rule'(0,D,'drop') :- ','('trying rule'(0,D),','('arg'(3,D,'cow'),','('fact label'(E,L),"
        "','('arg'(4,D,L),'='(E,D)))))."
    )


def test_rules_are_numbered_in_the_order_of_the_file_with_their_lines() -> None:
    clauses, _ = read_clauses("rule(a, _, drop).\n\np.\nrule(b, _, confirm) :- p.\nrule(a, _, drop).")
    assert [(one.name, one.place.line) for one in make_program(clauses).rules] == [("a", 1), ("b", 4), ("a", 5)]


def test_aggregate_and_templates_keep_their_goals() -> None:
    lines = program_of("p(X) :- aggregate_all(count, q(X), 2), bagof(A, B^q(A, B), X).")
    assert lines == ["'own p'(X) :- ','('collected'('count','own q'(X),2),'bagof'(A,'^'(B,'own q'(A,B)),X))."]


def test_rounding_is_written_as_every_engine_computes_it() -> None:
    lines = program_of("p(X) :- 3 < round(X) * 2, aggregate_all(max(integer(Y)), q(Y), X), X = round(1).")
    assert lines == [
        "'own p'(X) :- ','('<'(3,'*'('floor'('+'(X,0.5)),2)),"
        "','('collected'('max'('floor'('+'(Y,0.5))),'own q'(Y),X),'='(X,'round'(1)))).",
    ]
