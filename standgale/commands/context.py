"""Gives each command its settings, a console for people and JSON output for scripts."""

from __future__ import annotations

import json
from collections.abc import Collection, Coroutine
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, TypeVar

import typer
from rich.console import Console
from rich.table import Column, Table

from infra.process.terminal import writes_unicode
from standgale.consoles import PlainConsole

if TYPE_CHECKING:
    from standgale.settings import Settings

ResultT = TypeVar("ResultT")

JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON for scripts instead of text for people.")]


@dataclass(slots=True)
class Context:
    """Holds what the command line was started with, as typer's ``obj``. Notes go to stderr, results to stdout."""

    config: Path | None
    notes: Console = field(default_factory=lambda: PlainConsole(stderr=True))
    out: Console = field(default_factory=PlainConsole)

    def settings(self, **overrides: object) -> Settings:
        """Read the settings. ``overrides`` replace them by path, with ``__`` for the dot; None means not given."""
        from standgale.settings import load_settings

        given = {name.replace("__", "."): value for name, value in overrides.items() if value is not None}
        return load_settings(self.config, given)

    def note_new_database(self, settings: Settings) -> None:
        """Say that an embedded database is about to be created: in a wrong folder, no service would ever read it."""
        if settings.database.url is None and not (folder := settings.data_dir.absolute()).joinpath("postgres").exists():
            text = (
                f"no database is in {folder} yet, so a new one is created there; services use it only with the same "
                "data_dir (STANDGALE_DATA_DIR)"
            )
            self.notes.print(text, highlight=False, soft_wrap=True)


def context_of(context: typer.Context) -> Context:
    """Return the Context of the running verb."""
    found = context.obj
    assert isinstance(found, Context)
    return found


def table(*headers: str, whole: Collection[str] = ()) -> Table:
    """Make an empty table that folds long text; columns in ``whole``, which people copy, stay on one line."""
    return Table(*(Column(header, overflow="fold", no_wrap=header in whole) for header in headers))


def engine_text(engine: str, reason: str) -> str:
    """Return ``engine`` and the ``reason`` for it; a reason from measurements begins with the engine already."""
    return reason if reason.startswith(f"{engine} ") else f"{engine}: {reason}"


def print_json(value: object) -> None:
    """Print ``value`` on stdout as one line of JSON."""
    import orjson

    try:
        text = orjson.dumps(value, default=str).decode()
    except orjson.JSONEncodeError:
        # A name of a file with bytes that are no text; its escapes are JSON, too.
        text = json.dumps(value, default=str)
    # Where the output takes ASCII only, other characters are written as JSON escapes, which any reader understands.
    typer.echo(text if writes_unicode() else json.dumps(json.loads(text)))


def run_async(work: Coroutine[None, None, ResultT]) -> ResultT:
    """Run ``work`` to its end in a new event loop; Ctrl-C and SIGTERM cancel it, so that it closes what it opened."""
    from infra.process.run_until_signal import run_until_signal

    return run_until_signal(work)
