"""Defines `standgale stats`: shows what was counted in each minute of each device."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from infra.errors import SettingsError
from standgale.commands.context import JsonOption, context_of, print_json, run_async, table
from standgale.commands.times import parse_time

if TYPE_CHECKING:
    from sinks.statistics.listing import WindowFilters

_MOST_LABELS = 5
_MINUTE, _FRAMES, _TIMES = "minute\n(UTC)", "frames\nper s", "p95 of lag,\nto detection"
_HEADERS = (_MINUTE, "device\nmodel", _FRAMES, "found", _TIMES)


def register(app: typer.Typer) -> None:
    """Add the verb to the command line."""
    app.command(name="stats")(stats)


def stats(
    context: typer.Context,
    device: Annotated[str | None, typer.Option(help="Only this device.")] = None,
    label: Annotated[str | None, typer.Option(help="Only minutes in which this was found.")] = None,
    source: Annotated[str | None, typer.Option(help="Only live frames (live), or those of jobs (jobs).")] = None,
    since: Annotated[str | None, typer.Option("--from", help="Only minutes from this time on; UTC.")] = None,
    until: Annotated[str | None, typer.Option("--to", help="Only minutes before this time; UTC.")] = None,
    limit: Annotated[int, typer.Option(min=1, max=10_000, help="The most minutes, the newest first.")] = 20,
    as_json: JsonOption = False,
) -> None:
    """Show what was found in each minute of each device, how fast frames came, and how long they took."""
    from sinks.statistics.listing import WindowFilters

    filters = WindowFilters(
        device_id=_storable("--device", device),
        label=_storable("--label", label),
        source=_source(source),
        minute_from=parse_time("--from", since),
        minute_to=parse_time("--to", until),
    )
    windows = run_async(_read(context, filters, limit))
    if as_json:
        print_json(windows)
        return
    # Two lines for each window: in 80 characters numbers of eight columns would be cut.
    shown = table(*_HEADERS, whole={_MINUTE, _FRAMES, _TIMES})
    for window in windows:
        times = window["times"]
        shown.add_row(
            window["minute"][:16].replace("T", "\n"),
            window["device_id"]
            + ("" if window["source"] == "live" else " (jobs)")
            + "\n{name} {version}".format_map(window["model"]),
            f"{window['frames']}\n{window['frames_per_s']:.2f}",
            _found(window),
            f"{times['lag']['p95_ms']:.0f} ms\n{times['captured_to_detected']['p95_ms']:.0f} ms",
        )
    if not windows:
        context_of(context).notes.print("nothing is counted yet, or nothing fits; `standgale sink statistics` counts")
        return
    context_of(context).out.print(shown)


async def _read(context: typer.Context, filters: WindowFilters, limit: int) -> list[dict[str, Any]]:
    from sinks.statistics.listing import list_windows
    from standgale.opening import open_database

    settings = context_of(context).settings()
    context_of(context).note_new_database(settings)
    async with open_database(settings) as database, database.acquire() as connection:
        return await list_windows(connection, filters, limit=limit)


def _source(text: str | None) -> Any:
    if text not in (None, "live", "jobs"):
        raise SettingsError(f"--source is {text!r}; it takes live or jobs")
    return text


def _storable(option: str, text: str | None) -> str | None:
    """Return ``text``. Raises SettingsError where the database cannot compare with it."""
    if text is not None and ("\0" in text or not text.isprintable()):
        raise SettingsError(f"{option} is {text!r}; it takes text that can be printed")
    return text


def _found(window: dict[str, Any]) -> str:
    """Return the most frequent labels with their counts."""
    classes = sorted(window["classes"], key=lambda each: (-each["detections"], each["label"]))
    shown = [f"{each['detections']} {each['label']}" for each in classes[:_MOST_LABELS]]
    rest = window["detections"] - sum(each["detections"] for each in classes[:_MOST_LABELS])
    return ", ".join([*shown, *([f"{rest} others"] if rest else [])])
