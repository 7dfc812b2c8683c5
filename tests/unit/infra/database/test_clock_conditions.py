"""Conditions about a clock that was set back are written in one place."""

from __future__ import annotations

import re

from tests.house import packages
from tests.paths import ROOT

_AHEAD = re.compile(r">=? *(now|clock_timestamp|statement_timestamp)\(\) *\+")


def test_only_one_module_compares_with_times_that_are_ahead() -> None:
    found = {
        str(path.relative_to(ROOT))
        for package in packages(ROOT)
        for path in (ROOT / package).rglob("*.py")
        if "versions" not in path.parts and _AHEAD.search(path.read_text())
    }
    assert found == set()
