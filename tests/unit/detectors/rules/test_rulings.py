"""Checks how the output of a program is read: what is no ruling is an error, never a guess."""

from __future__ import annotations

import pytest

from detectors.rules.engines.port import RulesEngineError
from detectors.rules.language.program import Program, Rule
from detectors.rules.language.terms import Place
from detectors.rules.rulings import PrologError, Ruling, Rulings, last_tried, read_rulings

RULES = (Rule("small", Place(3, 1)), Rule("herd", Place(7, 1)))
PROGRAM = Program("", RULES, ("wild cow",))
LABELS = ("cow",)


def test_read_rulings_returns_one_per_detection() -> None:
    found = read_rulings("drop 0 2\nconfirm 1 0\nrelabel 1 1 wild cow\n\ndone\n", PROGRAM, 3, LABELS)
    assert found == {
        2: Ruling("drop", RULES[0]),
        0: Ruling("confirm", RULES[1]),
        1: Ruling("relabel", RULES[1], "wild cow"),
    }


@pytest.mark.parametrize(
    "output",
    [
        *("", "drop 0 1\n", "drop 0 3\n\ndone\n", "drop 2 0\n\ndone\n", "drop x 0\n\ndone\n", "keep 0 0\n\ndone\n"),
        *("drop 0 -1\n\ndone\n", "drop 0 ²\n\ndone\n", "hello\n\ndone\n"),
    ],
)
def test_output_that_is_no_ruling_is_an_error_of_the_engine(output: str) -> None:
    with pytest.raises(RulesEngineError):
        read_rulings(output, PROGRAM, 3, LABELS)


@pytest.mark.parametrize("label", ["", "x" * 101, "a\x07", "wild"])
def test_labels_that_neither_model_nor_rules_name_are_errors_of_the_rule(label: str) -> None:
    with pytest.raises(PrologError, match="no_label"):
        read_rulings(f"relabel 0 0 {label}\n\ndone\n", PROGRAM, 3, LABELS)


def test_an_error_of_prolog_is_raised_with_its_term() -> None:
    with pytest.raises(PrologError, match="zero_divisor"):
        read_rulings("drop 0 1\n\nerror error(evaluation_error(zero_divisor),/)\n\ndone\n", PROGRAM, 3, LABELS)


def test_last_tried_is_the_rule_of_the_last_complete_line() -> None:
    assert last_tried("trying 0 1\ntrying 1 2\ntry", RULES) == (RULES[1], 2)
    assert last_tried("", RULES) is None
    assert last_tried("trying 9 0\n", RULES) is None


def test_rulings_count_what_each_rule_dropped() -> None:
    rulings = Rulings({n: Ruling("drop", RULES[n % 2]) for n in range(3)} | {5: Ruling("confirm", RULES[0])})
    assert rulings.dropped_by_rule() == {"herd": 1, "small": 2}
    assert rulings.kept(7) == [3, 4, 5, 6]
