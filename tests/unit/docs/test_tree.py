"""Checks sizes of test files, names of tests and first lines of modules against the rules of CONTRIBUTING.md."""

from __future__ import annotations

import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

from tests.house import packages
from tests.paths import ROOT

# In one process, so that each file is read once.
pytestmark = pytest.mark.xdist_group("tree")

_MAX_LINES = 400
_RIDDLES = re.compile(
    "(^|_)(told|tells?|said|says?|stands?|lies?|nobody|somebody|whatever|whoever|mend|mends|mended|apart|company|patience"
    "|remember|remembers|remembered|answer|answers|answered)(_|$)"
    "|^test_(what|who|whose|where|it|its|they)_"
)
_NAMES = re.compile(r"^ *(?:async )?def (test_\w+)", re.MULTILINE)
_DOCSTRING = re.compile(r'(?:#[^\n]*\n|\n)*[rR]?"""([^\n]*)')
_VAGUE = ("the world", "whoever", "whatever", "stands", " lies ", " told", "what comes of", "in the way", "lets go")


def _files(*folders: str) -> Iterator[Path]:
    for folder in folders:
        yield from (ROOT / folder).rglob("*.py")


@cache
def _text(path: Path) -> str:
    return path.read_text(encoding="utf-8")


def _tests() -> Iterator[tuple[Path, str]]:
    for path in _files("tests", "standgale/testing"):
        for name in _NAMES.findall(_text(path)):
            yield path, name


def test_pytest_xdist_finds_the_groups_of_tests(request: pytest.FixtureRequest) -> None:
    """Without them each process would start all servers."""
    assert "@" in request.node.nodeid or not hasattr(request.config, "workerinput")


def test_files_of_tests_have_at_most_400_lines() -> None:
    sizes = {path: _text(path).count("\n") for path in _files("tests")}
    assert {str(path.relative_to(ROOT)): lines for path, lines in sizes.items() if lines > _MAX_LINES} == {}


def test_names_of_tests_use_words_of_the_code_and_have_at_most_80_characters() -> None:
    wrong = [f"{path.name}::{name}" for path, name in _tests() if _RIDDLES.search(name) or len(name) > 80]
    assert wrong == []


def test_first_docstring_lines_of_modules_use_plain_words() -> None:
    wrong = {}
    for path in _files(*packages(ROOT)):
        # Parsing all modules takes a second. That each has a docstring, and where, is checked by ruff.
        match = _DOCSTRING.match(_text(path))
        first = match[1].removesuffix('"""') if match else ""
        if any(words in f" {first.lower()} " for words in _VAGUE):
            wrong[str(path.relative_to(ROOT))] = first
    assert wrong == {}
