"""Defines `standgale settings | errors | schemas`: print all settings and error codes, write the event schemas."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from infra.errors import SettingsError
from standgale.commands.context import context_of


def register(app: typer.Typer) -> None:
    """Add the verbs to the command line."""
    app.command()(settings)
    app.command()(errors)
    app.command()(schemas)


def settings(context: typer.Context) -> None:
    """Print every setting: its variable, path in the file, allowed values and default; --config FILE checks a file."""
    from standgale.settings import settings_markdown

    if (here := context_of(context)).config is not None:
        here.settings()
    typer.echo(settings_markdown(), nl=False)


def errors() -> None:
    """Print every error code of the HTTP APIs: what it means, and what to do about it."""
    from console.http.error_codes import CONSOLE_CODES
    from infra.http_api.errors.codes import codes_markdown

    typer.echo(codes_markdown(CONSOLE_CODES), nl=False)


def schemas(
    context: typer.Context,
    folder: Annotated[Path, typer.Argument(help="The folder to write to.")],
) -> None:
    """Write the JSON Schemas of all events, their types for TypeScript and Python, and the AsyncAPI document."""
    from schemas.documents import documents
    from schemas.topics import load_topics

    try:
        folder.mkdir(parents=True, exist_ok=True)
        for name, text in documents(load_topics(context_of(context).settings().topics_file)).items():
            (folder / name).write_text(text, encoding="utf-8")
    except OSError as error:
        raise SettingsError(f"{folder}: cannot be written ({error.strerror}); give another folder") from error
    context_of(context).out.print(f"written to {folder}", highlight=False)
