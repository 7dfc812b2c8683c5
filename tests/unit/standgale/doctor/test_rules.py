"""Checks what the doctor finds about rules."""

from __future__ import annotations

from pathlib import Path

import pytest

from detectors.settings import DetectorSettings
from standgale.doctor import rules
from standgale.doctor.rules import RulesCheck


async def found(text: str | None, folder: Path) -> list[tuple[str, str]]:
    path = None
    if text is not None:
        path = folder / "herd.pl"
        path.write_text(text)
    return [(one.level, one.what) for one in await RulesCheck(DetectorSettings(rules=path)).look()]


async def test_rules_are_read_and_need_an_engine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    good = "rule(a, D, drop) :- label(D, cwo).\n"
    monkeypatch.setattr(rules, "why_no_engine", lambda _: None)
    assert await found(None, tmp_path) == [("ok", "none are used")]
    usable = await found(good, tmp_path)
    assert usable[0] == ("ok", "herd.pl: 1 rule without errors")
    assert usable[1][0] == "warning" and "the model has no label cwo" in usable[1][1]
    ((level, what),) = await found("rule(a, D, drop) :- shell(D).\n", tmp_path)
    assert level == "problem" and "line 1, column 21" in what
    monkeypatch.setattr(rules, "why_no_engine", lambda _: "nothing is installed")
    assert await found(good, tmp_path) == [("problem", "herd.pl gives no rulings: nothing is installed")]
    assert await found(None, tmp_path) == [("ok", "none are used, and nothing is installed")]
