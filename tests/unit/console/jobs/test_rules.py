"""Checks which rules a job gets: installed ones by name, a text, or an error of the request (C-S2-024)."""

from __future__ import annotations

from pathlib import Path

import pytest

from console.http.errors import InvalidConfigError
from console.jobs.config import JobConfig, SymbolicReasoning
from console.jobs.rules import FIELD, rules_of
from schemas.job_events import MAX_RULES, JobRules
from standgale.services.rules_library import InstalledRules

GOOD = "rule(small, D, drop) :- length_px(D, L), L < 9.\n"


async def rules_for(folder: Path, given: str | None, *, enabled: bool = True) -> JobRules | None:
    asked = SymbolicReasoning(enabled=enabled, rules_file=given)
    return await rules_of(JobConfig(symbolic_reasoning=asked), InstalledRules(folder))


async def test_a_name_brings_the_text_of_the_installed_rules(tmp_path: Path) -> None:
    (tmp_path / "herd.pl").write_text(GOOD)
    assert await rules_for(tmp_path, "herd") == JobRules(name="herd", text=GOOD)


async def test_a_text_is_taken_as_it_is(tmp_path: Path) -> None:
    assert await rules_for(tmp_path, GOOD) == JobRules(name="job", text=GOOD)


async def test_without_rules_or_switched_off_there_are_none(tmp_path: Path) -> None:
    assert await rules_for(tmp_path, None) is None
    assert await rules_for(tmp_path, GOOD, enabled=False) is None


@pytest.mark.parametrize(
    ("given", "part"),
    [
        ("rule(a, D, drop) :- shell(D).", "line 1, column 21: shell/1 is not available"),
        ("rule(a, D, drop :- label(D, cow).", "line 1"),
        ("wrong", "line 1, column 1: there is no rule"),
        ("huge", f"jobs take 1 to {MAX_RULES:,}"),
        ("../herd", "paths are not accepted"),
        ("other", "There are no rules called 'other'"),
    ],
)
async def test_wrong_rules_are_refused_with_the_reason(tmp_path: Path, given: str, part: str) -> None:
    (tmp_path / "wrong.pl").write_text("night.\n")
    (tmp_path / "huge.pl").write_text(f"%{'x' * MAX_RULES}")
    with pytest.raises(InvalidConfigError) as caught:
        await rules_for(tmp_path, given)
    assert FIELD in str(caught.value)
    assert part in str(caught.value)
