"""Defines `standgale doctor`: checks every part of an installation and prints what to do."""

from __future__ import annotations

import logging
import os
import sys
from collections.abc import Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated

import typer
from rich.text import Text

from standgale.commands.context import Context, JsonOption, context_of, print_json, run_async, table

if TYPE_CHECKING:
    from standgale.doctor.examine import DoctorReport
    from standgale.doctor.port import Finding

_COLOURS = {"ok": "green", "warning": "yellow", "problem": "red"}


def register(app: typer.Typer) -> None:
    """Add the verb to the command line."""
    app.command()(doctor)


def doctor(
    context: typer.Context,
    health: Annotated[
        list[str] | None,
        typer.Option(help="The health port of a further service, http://host:port; may be repeated."),
    ] = None,
    timeout: Annotated[float, typer.Option(min=0.1, help="Seconds that each check may take.")] = 10.0,
    as_json: JsonOption = False,
) -> None:
    """Check settings, topics, groups, dead letters, clocks, database, store, model, disks, services; change nothing.

    Exits with 0 when all is ok, 1 with warnings, 2 with problems.
    """
    from standgale.doctor.checks import all_checks
    from standgale.doctor.examine import examine
    from standgale.doctor.port import LEVELS

    here = context_of(context)
    checks = all_checks(here.settings(), timeout_s=timeout, health=health or ())
    # The findings report it; clients that try repeatedly would log it many times.
    logging.getLogger().addHandler(logging.NullHandler())

    async def work() -> int:
        report = await examine(checks, timeout)
        _show(here, report, as_json)
        status = LEVELS.index(report.level)
        if report.hung:
            # A thread that hangs (a disk, a driver) would keep the process from ending.
            sys.stdout.flush()
            os._exit(status)
        return status

    raise typer.Exit(run_async(work()))


def _merged(findings: Sequence[tuple[str, Finding]]) -> list[tuple[str, Finding]]:
    """Return the findings with those that are alike as one, at the place of the first, with all its subjects."""
    subjects: dict[Finding, dict[str, None]] = {}
    for subject, finding in findings:
        subjects.setdefault(finding, {})[subject] = None
    return [(", ".join(names), finding) for finding, names in subjects.items()]


def _show(here: Context, report: DoctorReport, as_json: bool) -> None:
    if as_json:
        findings = [{"subject": subject, **asdict(finding)} for subject, finding in report.findings]
        print_json({"status": report.level, "findings": findings})
        return
    shown = table("", "subject", "what", "what to do", whole=[""])
    for subject, finding in _merged(report.findings):
        level = Text(finding.level, _COLOURS[finding.level])
        shown.add_row(level, subject, finding.what, finding.remedy)
    here.out.print(shown)
