"""Checks what `standgale doctor` prints for people."""

from __future__ import annotations

import pytest
from rich.console import Console

from standgale.commands.context import Context
from standgale.commands.doctor import _show
from standgale.doctor.examine import DoctorReport
from standgale.doctor.port import ok, warning


def test_one_reason_of_several_subjects_has_one_row(capsys: pytest.CaptureFixture[str]) -> None:
    no_file = warning("there is no file yet", "start the services")
    findings = [("topics", no_file), ("settings", ok("as they are")), ("groups", no_file), ("clocks", no_file)]
    here = Context(None, out=Console(width=100))
    _show(here, DoctorReport(findings, hung=False), as_json=False)
    printed = capsys.readouterr().out
    assert printed.count("there is no file yet") == 1
    assert "topics, groups, clocks" in printed
    _show(here, DoctorReport(findings, hung=False), as_json=True)
    assert capsys.readouterr().out.count("there is no file yet") == 3, "scripts get each subject"
