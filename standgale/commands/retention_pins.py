"""Defines `standgale retention pin | unpin | pins`: keeps frames from retention, and lists what is kept."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from infra.errors import SettingsError
from schemas.timestamps import utc_now
from standgale.commands.context import JsonOption, context_of, print_json, run_async, table
from standgale.commands.times import parse_time

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime

    from sinks.retention.pins import Pin
    from standgale.settings import Settings

_MOST_LIST_BYTES = 200_000_000

NameArgument = Annotated[str, typer.Argument(help="The name of the pin, for example flight-north or hold-2026-17.")]


def register(app: typer.Typer) -> None:
    """Add the verbs to ``app``."""
    app.command()(pin)
    app.command()(unpin)
    app.command()(pins)


def pin(  # noqa: PLR0913, PLR0917 (one per option of the verb)
    context: typer.Context,
    name: NameArgument,
    reason: Annotated[str, typer.Option(help="Why they are kept, for whoever asks later.")],
    device: Annotated[str | None, typer.Option(help="Frames of this device.")] = None,
    flight: Annotated[str | None, typer.Option(help="Frames of this flight of the device.")] = None,
    since: Annotated[str | None, typer.Option(help="Frames captured at this time or later (UTC).")] = None,
    until: Annotated[str | None, typer.Option(help="Frames captured before this time (UTC).")] = None,
    digests: Annotated[
        Path | None, typer.Option(help="A file with the SHA-256 of each picture, one a line, instead of the others.")
    ] = None,
    dataset: Annotated[str | None, typer.Option(help="The pictures of this data set, instead of the others.")] = None,
    expires: Annotated[
        str | None, typer.Option(help="Until when the pin keeps them (UTC); default until unpin.")
    ] = None,
) -> None:
    """Keep frames whatever their age and the total size: a flight, a legal hold, the pictures of a data set."""
    from sinks.retention.pins import Selection, pin_frames, pin_pictures
    from standgale.opening import open_database

    selection = Selection(device, flight, parse_time("--since", since), parse_time("--until", until))
    if (digests is not None) + (dataset is not None) + (selection != Selection()) > 1:
        raise SettingsError(
            "--digests and --dataset say which pictures are kept; give one of them, or options that select frames"
        )
    expires_at = parse_time("--expires", expires)
    if expires_at is not None and expires_at <= utc_now():
        raise SettingsError(f"--expires {expires} is in the past, so the pin would keep nothing; give a later time")
    settings = context_of(context).settings()
    read = None if digests is None else _read_digests(digests)

    async def work() -> None:
        listed = read if dataset is None else await _dataset_digests(settings, dataset)
        async with open_database(settings) as database, database.acquire() as connection:
            if listed is None:
                await pin_frames(connection, name, reason, selection, expires_at)
            else:
                await pin_pictures(connection, name, reason, listed, expires_at)

    run_async(work())
    context_of(context).notes.print(f"pinned: {name}")


def unpin(context: typer.Context, name: NameArgument) -> None:
    """Remove a pin; the next run may remove what only this pin kept."""
    from sinks.retention import pins as module
    from standgale.opening import open_database

    async def work() -> None:
        async with open_database(context_of(context).settings()) as database, database.acquire() as connection:
            await module.unpin(connection, name)

    run_async(work())
    context_of(context).notes.print(f"no longer pinned: {name}")


def pins(context: typer.Context, as_json: JsonOption = False) -> None:
    """List the pins."""
    from sinks.retention.pins import list_pins
    from standgale.opening import open_database

    async def work() -> Sequence[Pin]:
        async with open_database(context_of(context).settings()) as database, database.acquire() as connection:
            return await list_pins(connection)

    found = run_async(work())
    if as_json:
        from dataclasses import asdict

        print_json([asdict(each) for each in found])
        return
    shown = table("name", "keeps", "reason", whole=["name"])
    for each in found:
        shown.add_row(each.name, _kept(each), each.reason)
    context_of(context).out.print(shown if found else "no pins: retention removes frames by its policy alone")


def _read_digests(path: Path) -> list[str]:
    size = path.stat().st_size
    if size > _MOST_LIST_BYTES:
        raise SettingsError(f"{path} has {size} bytes; a list of pictures has at most {_MOST_LIST_BYTES}")
    try:
        return path.read_text(encoding="ascii").split()
    except UnicodeDecodeError as error:
        raise SettingsError(f"{path} is no list of SHA-256 digests: it has characters that are not ASCII") from error


async def _dataset_digests(settings: Settings, name: str) -> list[str]:
    """Return the SHA-256 of each picture of a data set."""
    import asyncio
    import tempfile

    from console.datasets.export import find_dataset
    from console.datasets.manifest import PICTURES, pictures_in
    from standgale.datasets import opened_datasets

    with tempfile.TemporaryDirectory(prefix="standgale-pin-") as folder:
        file = Path(folder) / "pictures"
        async with opened_datasets(settings) as store:
            await (await find_dataset(store, name)).fetch(PICTURES, file)
        return await asyncio.to_thread(lambda: [picture.sha256 for picture in pictures_in(file)])


def _kept(pin_: Pin) -> str:
    if pin_.pictures is not None:
        parts = [f"{pin_.pictures} pictures"]
    else:
        named = {"device": pin_.device_id, "flight": pin_.flight_id}
        parts = [f"{what} {value}" for what, value in named.items() if value is not None]
        times = {"from": pin_.since, "before": pin_.until}
        parts += [f"{what} {_time(value)}" for what, value in times.items() if value is not None]
    if pin_.expires_at is not None:
        parts.append(f"until {_time(pin_.expires_at)}")
    return ", ".join(parts)


def _time(moment: datetime) -> str:
    return f"{moment:%Y-%m-%dT%H:%M:%SZ}"
