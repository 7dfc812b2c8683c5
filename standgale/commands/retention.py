"""Defines `standgale retention estimate | audit | run`: says what would be removed, compares, and removes frames."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, TextIO

import typer

from infra.texts import counted
from standgale.commands import retention_pins
from standgale.commands.context import JsonOption, context_of, print_json, run_async

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from sinks.retention.estimate import Arrivals, Forecast
    from sinks.retention.looking.audit import Audit
    from sinks.retention.looking.plan import Planned
    from sinks.retention.policy import Reason, RunReport, Tally

app = typer.Typer(
    no_args_is_help=True, help="Retention: how long frames are kept, what keeps them, and what would be removed."
)
retention_pins.register(app)

_GIGABYTE = 1_000_000_000
WaitOption = Annotated[
    float, typer.Option("--wait", min=0.0, max=86_400.0, help="Seconds to wait for consumers that read at this moment.")
]


@app.command()
def estimate(
    context: typer.Context,
    max_total_gb: Annotated[float | None, typer.Option(help="Instead of retention.max_total_gb.")] = None,
    retention_days: Annotated[float | None, typer.Option(help="Instead of retention.retention_days.")] = None,
    keep_confidence: Annotated[float | None, typer.Option(help="Instead of retention.keep_confidence.")] = None,
    days: Annotated[
        float, typer.Option(min=1.0, max=365.0, help="From what arrived in so many days before now.")
    ] = 7.0,
    as_json: JsonOption = False,
) -> None:
    """Say how long there is room, how long frames are kept, and what the first run would remove; change nothing."""
    from sinks.retention.estimate import forecast, read_arrivals
    from sinks.retention.policy import Policy
    from standgale.retention import free_bytes, open_retention

    settings = context_of(context).settings(
        retention__max_total_gb=max_total_gb,
        retention__retention_days=retention_days,
        retention__keep_confidence=keep_confidence,
    )
    wanted = settings.retention

    async def work() -> tuple[RunReport, Arrivals, Forecast]:
        async with open_retention(settings) as parts:
            report = await parts.retention.look(as_if_read=True)
            policy = Policy.of(wanted, report.began_at, report.began_at)
            arrivals = await read_arrivals(parts.database, policy, days)
        kept = sum(tally.bytes for why, tally in report.kept.items() if why in _LASTING)
        return (
            report,
            arrivals,
            forecast(
                arrivals,
                stored=report.objects.bytes,
                kept=kept,
                free=free_bytes(settings),
                max_bytes=policy.max_bytes,
                retention_days=wanted.retention_days,
                least_days=wanted.min_age_hours / 24,
            ),
        )

    report, arrivals, found = run_async(work())
    if as_json:
        print_json({**_report_json(report), "arrivals_bytes_per_day": asdict(arrivals), "forecast": asdict(found)})
        return
    out = context_of(context).out
    for line in (
        *_arrival_lines(report, arrivals, days),
        *_forecast_lines(found),
        *_plan_lines(report, "would remove"),
    ):
        out.print(line, highlight=False, soft_wrap=True)


_LASTING = ("pinned", "flagged", "annotated", "confident")


@app.command()
def audit(context: typer.Context, wait: WaitOption = 90.0, as_json: JsonOption = False) -> None:
    """Compare stored pictures with the rows of frames, in both directions; exits with 1 when something is missing."""
    from standgale.retention import open_retention

    settings = context_of(context).settings()

    async def work() -> Audit:
        async with open_retention(settings, wait_s=wait, tell=context_of(context).notes.print) as parts:
            return await parts.retention.audit()

    found = run_async(work())
    if as_json:
        print_json(asdict(found))
    else:
        for line in _audit_lines(found):
            context_of(context).out.print(line, highlight=False, soft_wrap=True)
    raise typer.Exit(1 if found.orphans.pictures or found.missing else 0)


@app.command()
def run(
    context: typer.Context,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only say what would be removed.")] = False,
    list_: Annotated[
        Path | None, typer.Option("--list", help="With --dry-run: write each picture to this new file, as JSON lines.")
    ] = None,
    wait: WaitOption = 90.0,
    as_json: JsonOption = False,
) -> None:
    """Remove now what the policy says; a run that was killed is finished first."""
    from standgale.retention import open_retention

    if list_ is not None and not dry_run:
        raise typer.BadParameter("it goes with --dry-run", param_hint="--list")
    settings = context_of(context).settings()

    async def work() -> RunReport:
        async with open_retention(settings, wait_s=wait, tell=context_of(context).notes.print) as parts:
            if not dry_run:
                return await parts.retention.run()
            with _listing(list_) as show:
                return await parts.retention.look(show)

    report = run_async(work())
    if as_json:
        print_json({"dry_run": dry_run, **_report_json(report)})
        return
    for line in _plan_lines(report, "would remove") if dry_run else _removed_lines(report):
        context_of(context).out.print(line, highlight=False, soft_wrap=True)


@contextmanager
def _listing(path: Path | None) -> Iterator[Callable[[Sequence[Planned]], None]]:
    """Give what writes each picture of a plan to ``path``; without one, to nowhere."""
    if path is None:
        yield lambda page: None
        return
    with path.open("x", encoding="utf-8") as file:
        yield lambda page: _write(file, page)


def _write(file: TextIO, page: Sequence[Planned]) -> None:
    import orjson

    for each in page:
        file.write(orjson.dumps(asdict(each)).decode() + "\n")


def _report_json(report: RunReport) -> dict[str, object]:
    found = asdict(report)
    return found | {"began_at": f"{report.began_at:%Y-%m-%dT%H:%M:%SZ}"}


def _arrival_lines(report: RunReport, arrivals: Arrivals, days: float) -> Iterator[str]:
    yield f"stored now: {counted(report.objects.pictures, 'picture')}, {_size(report.objects.bytes)}"
    yield (
        f"arrived in a day, of the last {days:g}: {_size(arrivals.total)}, of it without detections "
        f"{_size(arrivals.empty)}, always kept {_size(arrivals.kept)}"
    )


def _forecast_lines(found: Forecast) -> Iterator[str]:
    yield f"the disk is full, if nothing is removed: {_in(found.full_in_days)}"
    yield f"all pictures reach retention.max_total_gb: {_in(found.limit_in_days, 'they have it already')}"
    kept = [
        f"{what} are kept for {days:.1f} days"
        for what, days in (("frames without detections", found.empty_days), ("other frames", found.rest_days))
        if days is not None
    ]
    if kept:
        yield f"from then on {', '.join(kept)}"
    yield f"what is always kept fills all room alone: {_in(found.stuck_in_days, 'it does already')}"


def _plan_lines(report: RunReport, verb: str) -> Iterator[str]:
    yield from _tallies(f"a run now {verb}", report.planned)
    yield from _tallies("kept in spite of the policy", report.kept)
    if report.over_bytes:
        yield f"{_size(report.over_bytes)} above retention.max_total_gb remain: everything else is kept"


def _removed_lines(report: RunReport) -> Iterator[str]:
    yield from _tallies("removed", report.removed)
    yield f"{counted(report.removed_frames, 'frame')} went with them"
    if report.spared:
        yield f"{counted(report.spared, 'picture')} stayed after all: sent again or needed meanwhile, or gone before"
    if report.over_bytes:
        yield f"{_size(report.over_bytes)} above retention.max_total_gb remain: everything else is kept"


def _tallies(what: str, tallies: Mapping[Reason, Tally] | Mapping[str, Tally]) -> Iterator[str]:
    if not tallies:
        yield f"{what}: nothing"
    for why, tally in tallies.items():
        yield f"{what} ({why}): {counted(tally.pictures, 'picture')}, {_size(tally.bytes)}"


def _audit_lines(found: Audit) -> Iterator[str]:
    yield f"{counted(found.objects.pictures, 'picture')} stored, {_size(found.objects.bytes)}; {found.rows} frames"
    yield f"pictures without a row: {found.orphans.pictures}, {_size(found.orphans.bytes)}; retention removes them"
    yield from (f"  {uri}" for uri in found.orphan_uris)
    if found.young:
        yield f"pictures that are too young to say: {found.young}"
    yield f"frames without a picture: {found.missing}"
    yield from (f"  {uri}" for uri in found.missing_uris)


def _size(size: float) -> str:
    return f"{size / _GIGABYTE:.3f} GB"


def _in(days: float | None, now: str = "now") -> str:
    if days is None:
        return "never, or not known"
    return now if days == 0 else f"in {days:.1f} days"
