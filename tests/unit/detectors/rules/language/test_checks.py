"""Checks what is found wrong in rules, and that nothing that could leave the sandbox is accepted."""

from __future__ import annotations

import pytest

from detectors.rules.language.checks import check_clauses
from detectors.rules.language.reader import read_clauses
from tests.harnesses.rules import LABELS

GOOD = "rule(a, D, drop) :- label(D, cow).\n"


def findings(text: str) -> list[str]:
    clauses, errors = read_clauses(text)
    assert errors == []
    return [f"{one.level} {one.place.line}:{one.place.column} {one.text}" for one in check_clauses(clauses, LABELS)]


@pytest.mark.parametrize(
    "body",
    [
        "label(D, cow), \\+ near_px(D, _, 20)",
        "( label(D, cow) ; label(D, 'sheep') )",
        "confidence(D, C), C > 0.5 * 2 + max(1, 2)",
        "findall(L, label(_, L), All), length(All, N), N > 3, memberchk(cow, All), detection(D)",
        "aggregate_all(count, near_m(D, _, 3), N), N >= 2",
        "forall(near_px(D, E, 30), label(E, cow))",
        "maplist(label(D), [cow, bird])",
        "bagof(E, L^(near_px(D, E, 9), label(E, L)), Es), length(Es, 2)",
        "foldl(plus, [1, 2], 0, S), S > 2, detection(D)",
        'label(D, "cow")',
        "place(Y, X), X < Y, night(D)",
        "call(night, D)",
        "once(( label(D, cow) -> true ; fail ))",
    ],
)
def test_right_rules_have_no_findings(body: str) -> None:
    night = "night(D) :- time(H, _, _), ( H > 20 ; H < 5 ), at_edge(D).\nrule(night, D, drop) :- night(D).\n"
    assert findings(f"rule(a, D, drop) :- {body}.\n{night}") == []


@pytest.mark.parametrize(
    ("clause", "part"),
    [
        ("rule(a, D) :- label(D, cow).", "error 1:1 rule takes 3 arguments"),
        ("rule(A, D, drop) :- label(D, A).", "error 1:6 the first argument of a rule is its name"),
        ("rule(a, cow, drop).", "error 1:9 the second argument of a rule is the detection"),
        ("rule(a, D, dorp) :- label(D, cow).", "error 1:12 the third argument"),
        ("rule(a, D, dorp) :- label(D, cow).", "did you mean drop?"),
        ("rule(a, D, X) :- label(D, X).", "error 1:12 the third argument"),
        ("rule(a, D, relabel(3)) :- label(D, cow).", "error 1:20 a label is a name"),
        ("rule('a\\nb', D, drop) :- label(D, cow).", "error 1:6 a rule's name is one line"),
        ("label(D, cow) :- detection(D).", "error 1:1 label/2 is a fact of the frame"),
        ("append(A, A, A).", "error 1:1 append/3 belongs to Prolog"),
        ("3 :- true.", "error 1:1 a clause begins with a name"),
        (":- initialization(main).", "error 1:1 directives"),
        ("rule(a, D, drop) :- lable(D, cow).", "error 1:21 there is no lable/2; did you mean label?"),
        ("rule(a, D, drop) :- label(D).", "error 1:21 label takes 2 arguments: label(D, Label); here it has 1"),
        ("rule(a, D, drop) :- findall(D, L).", "error 1:21 findall takes 3 arguments; here it has 2"),
        ("rule(a, D, drop) :- label(cow, D).", "error 1:27 the first argument of label(D, Label) is a detection"),
        ("rule(a, D, drop) :- label(D, 3).", "error 1:30 a label is a name"),
        ("rule(a, D, drop) :- 3, label(D, cow).", "error 1:21 here a condition is needed"),
        ("rule(a, D, drop) :- X is D + cow, X > 3.", "error 1:30 arithmetic has no cow/0"),
        ("rule(a, D, drop) :- detection(D), [1] < 3.", "error 1:35 a list is no number"),
        ("rule(a, D, drop) :- aggregate_all(first, label(D, cow), 3).", "error 1:35 aggregate_all collects"),
        ("rule(a, D, drop) :- rule(b, D, drop).", "error 1:21 rules cannot call each other"),
        ("rule(a, D, drop) :- detection(D), X = 3.", "warning 1:35 the variable X is here only"),
        ("rule(a, D, drop) :- label(D, cwo).", "warning 1:30 the model has no label cwo, so this never holds; did you"),
        ("rule(a, D, relabel(calf)) :- label(D, cow).", "warning 1:20 the model has no label calf"),
        ("night.", "warning 1:1 nothing calls night/0"),
    ],
)
def test_wrong_clauses_are_found_with_their_place(clause: str, part: str) -> None:
    assert any(part in one for one in findings(f"{clause}\n{GOOD}")), findings(f"{clause}\n{GOOD}")


@pytest.mark.parametrize(
    "body",
    [
        "open('/etc/passwd', read, S), read(S, D)",
        "shell('touch /tmp/x'), detection(D)",
        "consult('/etc/passwd'), detection(D)",
        "G = shell(ls), call(G), detection(D)",
        "G = shell(ls), G, detection(D)",
        "call(shell(ls)), detection(D)",
        "call(shell, D)",
        "maplist(shell, [D])",
        "maplist(call, [shell(D)])",
        "call(\\+, shell(D))",
        "call(findall(D), shell(D), D)",
        "foldl(call, [D], 1, 2)",
        "once((detection(D), shell(ls)))",
        "findall(D, shell(D), L), L = []",
        "findall(D, (detection(D), D), L), L = []",
        "bagof(D, X^Y^shell(X, Y), D)",
        "\\+ shell(D)",
        "not(shell(D))",
        "( detection(D) -> shell(D) ; true )",
        "forall(shell(D), true)",
        "aggregate_all(count, shell(D), 1)",
        "ignore(assertz(foo(D)))",
        "catch(detection(D), _, true)",
        "user:shell(D)",
        "X is random + D, X > 3",
        "X is cputime, X > D",
        "nb_setval(a, D)",
        "set_prolog_flag(D, on)",
        "halt, detection(D)",
        "host_call(D, _)",
        "include(shell, [D], _)",
        "'the rule'(_, D, _)",
        "'decide on frame', detection(D)",
        "'own shell'(D)",
    ],
)
def test_calls_that_are_not_listed_are_errors(body: str) -> None:
    clauses, errors = read_clauses(f"rule(a, D, drop) :- {body}.")
    found = [one for one in check_clauses(clauses, LABELS) if one.level == "error"]
    assert found or errors, body


def test_files_without_a_rule_are_an_error() -> None:
    assert findings("")[0].startswith("error 1:1 there is no rule")


def test_without_a_model_labels_are_not_compared() -> None:
    clauses, _ = read_clauses("rule(a, D, drop) :- label(D, cwo).")
    assert check_clauses(clauses) == []


def test_the_check_ends_after_fifty_errors_with_the_place() -> None:
    found = findings("".join(f"rule(a, D, drop) :- unknown_{n}(D).\n" for n in range(80)) + "unused.\n")
    assert len(found) == 51
    assert found[-1] == "error 51:1 the check ends here, after 50 errors"
