"""Checks how rules are found that the operator has installed for jobs."""

from __future__ import annotations

from pathlib import Path

import pytest

from infra.errors import TransientError
from standgale.services.rules_library import InstalledRules


async def test_find_returns_the_text_of_the_file_with_that_name(tmp_path: Path) -> None:
    (tmp_path / "herd.pl").write_text("rule(a, _, drop).\n", encoding="utf-8-sig")
    library = InstalledRules(tmp_path)
    assert await library.find("herd") == "rule(a, _, drop).\n"
    assert await library.find("other") is None
    assert await InstalledRules(tmp_path / "none").find("herd") is None


async def test_rules_that_cannot_be_read_are_not_taken_for_missing(tmp_path: Path) -> None:
    (tmp_path / "folder.pl").mkdir()
    (tmp_path / "latin.pl").write_bytes(b"% \xe4\n")
    for name in ("folder", "latin"):
        with pytest.raises(TransientError, match=name):
            await InstalledRules(tmp_path).find(name)


async def test_fault_names_the_lines_of_errors_and_no_warnings(tmp_path: Path) -> None:
    library = InstalledRules(tmp_path)
    assert await library.fault("rule(a, D, drop) :- label(D, X).") is None
    assert "line 2, column 21: open/3 is not available" in str(
        await library.fault("p.\nrule(a, D, drop) :- open(D, read, _), p.")
    )
