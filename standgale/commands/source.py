"""Defines `standgale source add | list | status | remove`: manages the cameras that processes pull."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated

import typer

from standgale.commands.context import JsonOption, context_of, print_json, run_async, table

if TYPE_CHECKING:
    from pathlib import Path

    from ingest.sources.table import ListedSource, SourceTable

app = typer.Typer(no_args_is_help=True, help="Manage the cameras and videos that `standgale sources` and `up` pull.")

_NONE = "no sources; `standgale source add NAME ADDRESS` adds one"

_NameArgument = Annotated[str, typer.Argument(help="What the source is called, for example gate.")]


@asynccontextmanager
async def _sources(context: typer.Context) -> AsyncIterator[SourceTable]:
    from ingest.sources.table import SourceTable
    from standgale.opening import open_database

    settings = context_of(context).settings()
    context_of(context).note_new_database(settings)
    async with open_database(settings) as database:
        yield SourceTable(database)


@app.command()
def add(
    context: typer.Context,
    name: _NameArgument,
    address: Annotated[
        str,
        typer.Argument(help="rtsp://…, http://… or a file; - reads it from standard input."),
    ],
    device: Annotated[str | None, typer.Option(help="The device id of its frames. Default: the name.")] = None,
    frames: Annotated[str, typer.Option(help="every, nth=10, rate=2, key, or scene=0.08.")] = "every",
    transport: Annotated[str, typer.Option(help="How RTSP sends pictures: tcp or udp.")] = "tcp",
    start: Annotated[str | None, typer.Option(help="When a recording began, such as 2026-05-01T10:00:00Z.")] = None,
) -> None:
    """Add a camera; running processes pull it within seconds. A password goes to a file, never to the database."""
    from importlib.util import find_spec
    from pathlib import Path

    from infra.extras import install_extra
    from ingest.sources.address import allowed_file, split_login
    from ingest.sources.options import parse_selection, stored_options
    from ingest.sources.table import require_names
    from ingest.video.options import parse_address

    settings = context_of(context).settings()
    given = _from_input() if address == "-" else address
    plain, login = split_login(given)
    found = parse_address(plain)
    if isinstance(found, Path):
        plain = str(allowed_file(found.absolute(), settings.sources.folders))
    options = stored_options(parse_selection(frames), transport, start)
    require_names(name, device or name)
    file = settings.source_logins / name

    async def work() -> None:
        async with _sources(context) as sources:
            await sources.add(name, device or name, plain, has_login=login is not None, options=options)

    with _login_file(file, login):
        run_async(work())
    if not find_spec("av"):
        context_of(context).notes.print(
            f"cameras are read with PyAV, which is not installed here; processes that pull need it: "
            f"{install_extra('video')}",
            highlight=False,
        )
    if login is not None:
        context_of(context).notes.print(
            f"user and password are in {file}, which only this user can read; put a copy into the folder "
            "sources.logins of each other machine that pulls sources",
            highlight=False,
        )
    context_of(context).out.print(f"source {name} added: standgale source status {name}", highlight=False)


@app.command()
def remove(context: typer.Context, name: _NameArgument) -> None:
    """Remove a source, and wait until no process pulls it any more. Its frames stay."""
    import asyncio

    from ingest.sources.errors import SourceError

    settings = context_of(context).settings()

    async def work() -> None:

        async with _sources(context) as sources:
            await sources.remove(name)
            # A process that was killed has it until its lease ends.
            try:
                async with asyncio.timeout(settings.sources.lease_s + 10.0):
                    while await sources.has(name):  # noqa: ASYNC110 (another process removes it)
                        await asyncio.sleep(0.2)
            except TimeoutError:
                raise SourceError(
                    f"source {name} is removed, but the process that pulls it has not given it up yet; see "
                    f"standgale source status {name}"
                ) from None

    run_async(work())
    (settings.source_logins / name).unlink(missing_ok=True)
    context_of(context).out.print(f"source {name} removed", highlight=False)


@app.command(name="list")
def list_(context: typer.Context, as_json: JsonOption = False) -> None:
    """List all sources, without their passwords."""
    from ingest.sources.address import shown

    found = run_async(_read(context))
    if as_json:
        print_json([_as_json(each) for each in found])
        return
    if not found:
        context_of(context).out.print(_NONE, highlight=False)
        return
    rows = table("source", "device", "address", "frames", "state", whole=("source",))
    for each in found:
        rows.add_row(each.name, each.device_id, shown(each.address), each.options.get("frames", ""), _state(each))
    context_of(context).out.print(rows)


@app.command()
def status(
    context: typer.Context,
    name: Annotated[str | None, typer.Argument(help="One source. Default: all.")] = None,
    as_json: JsonOption = False,
) -> None:
    """Show who pulls each source, what became of its frames, and why one is not read."""
    from infra.errors import SettingsError

    found = [each for each in run_async(_read(context)) if name in (None, each.name)]
    if name is not None and not found:
        raise SettingsError(f"there is no source {name[:80]!a}; standgale source list shows all")
    if as_json:
        print_json([_as_json(each) for each in found])
        return
    if not found:
        context_of(context).out.print(_NONE, highlight=False)
        return
    rows = table("source", "state", "pulled by", "last frame", "lag", "frames", whole=("source",))
    for each in found:
        rows.add_row(
            each.name,
            _state(each),
            (each.holder if each.is_held else None) or "nobody",
            "" if each.accepted_at is None else f"{each.accepted_at:%Y-%m-%d %H:%M:%S}",
            "" if each.lag_s is None else f"{each.lag_s:.1f} s",
            _counts_text(each),
        )
    context_of(context).out.print(rows)


async def _read(context: typer.Context) -> list[ListedSource]:
    async with _sources(context) as sources:
        return list(await sources.list())


def _state(source: ListedSource) -> str:
    if source.removed_at is not None:
        return "being removed"
    if source.state != "ended" and not source.is_held:
        return (
            "not pulled: no process has it; run standgale sources, or standgale up with the extra video (where those "
            "run, one more, or raise sources.most)"
        )
    state = source.state if source.reason is None else f"{source.state}: {source.reason}"
    # A holder that is alive reports each second.
    is_old = source.is_held and source.report_age_s is not None and source.report_age_s > 5
    return f"{state} (as of {source.report_age_s:.0f} s ago)" if is_old else state


def _counts_text(source: ListedSource) -> str:
    return ", ".join(f"{value} {name}" for name, value in source.counts.items() if value)


def _as_json(source: ListedSource) -> dict[str, object]:
    from ingest.sources.address import shown

    return {**asdict(source), "address": shown(source.address)}


def _from_input() -> str:
    import sys

    return sys.stdin.readline(4_096).strip()


@contextmanager
def _login_file(file: Path, login: str | None) -> Iterator[None]:
    """Write ``login`` so that only this user can read it; it gets its name when the block has succeeded."""
    if login is None:
        yield
        return
    import os

    file.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    unfinished = file.parent / f".{os.getpid()}.unfinished"
    try:
        number = os.open(unfinished, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
        with os.fdopen(number, "w", encoding="utf-8") as opened:
            opened.write(login)
        yield
        unfinished.replace(file)
    finally:
        unfinished.unlink(missing_ok=True)
