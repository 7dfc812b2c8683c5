"""Defines `standgale demo`: runs the whole pipeline on this machine, with simulated drones or own pictures."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from standgale.commands.context import JsonOption, context_of, print_json, run_async


def register(app: typer.Typer) -> None:
    """Add the verb to the command line."""
    app.command()(demo)


def demo(
    context: typer.Context,
    source: Annotated[
        Path | None,
        typer.Option(help="A folder of pictures, a picture or a video to send instead of simulated drones."),
    ] = None,
    drones: Annotated[int, typer.Option(min=1, max=16, help="Simulated drones.")] = 4,
    frames: Annotated[int, typer.Option(min=1, max=10_000, help="Frames of each drone.")] = 30,
    data_dir: Annotated[Path, typer.Option(help="The folder of broker, frames and database.")] = Path(
        ".standgale/demo"
    ),
    as_json: JsonOption = False,
) -> None:
    """Run the pipeline, send frames, follow the detections live, and print a report.

    Exits with 1 when the counts of frames sent, accepted, detected, stored and seen are not all equal.
    """
    from infra.errors import SettingsError
    from infra.process.open_files import why_too_few_open_files
    from standgale.demo.report import print_report
    from standgale.demo.run import DemoPlan, run_demo
    from standgale.demo.source import check_source
    from standgale.folders import require_writable

    here = context_of(context)
    settings = here.settings()
    require_writable("--data-dir", data_dir)
    too_few = why_too_few_open_files()
    if too_few is not None:
        raise SettingsError(f"not started: {too_few}")
    found = None if source is None else check_source(source, drones * frames, settings.gateway)
    for line in () if found is None else found.notes():
        here.notes.print(line, highlight=False, markup=False, soft_wrap=True)
    plan = DemoPlan(data_dir=data_dir, drones=drones, frames_per_drone=frames, source=found)
    report = run_async(run_demo(settings, plan, here.notes))
    if as_json:
        print_json(report.as_json())
    else:
        print_report(here.out, report)
    raise typer.Exit(0 if report.complete else 1)
