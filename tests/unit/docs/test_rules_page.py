"""Checks that the page about rules lists every fact and predicate, and that its examples have no errors."""

from __future__ import annotations

import re

import pytest

from detectors.rules.language.vocabulary import BUILTINS, EVALUABLE, FACTS
from detectors.rules.rules_file import LARGEST_BYTES, MOST_CLAUSES, parse_rules
from tests.paths import ROOT

PAGE = (ROOT / "docs/rules.md").read_text(encoding="utf-8")
EXAMPLES = re.findall(r"```prolog\n(.*?)```", PAGE, re.DOTALL)


def test_rules_page_lists_every_fact_with_its_arguments() -> None:
    assert [
        f"| `{fact.call}` | {fact.about} |" for fact in FACTS if f"| `{fact.call}` | {fact.about} |" not in PAGE
    ] == []


def test_rules_page_lists_every_predicate_and_function() -> None:
    names = {name for name, _ in (*BUILTINS, *EVALUABLE)}
    assert sorted(name for name in names if f"`{name}`" not in PAGE) == []


def test_rules_page_names_the_limits() -> None:
    assert f"at most {LARGEST_BYTES:,} bytes and {MOST_CLAUSES:,} clauses" in PAGE


@pytest.mark.parametrize("example", EXAMPLES)
def test_examples_of_the_rules_page_have_no_findings(example: str) -> None:
    assert parse_rules(example.encode(), "example.pl").warnings == ()
