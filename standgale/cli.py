"""Defines the command line `standgale VERB`, and prints errors as text for people."""

from __future__ import annotations

import errno
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.text import Text
from typer.core import TyperCommand, TyperGroup
from typer.main import get_command

from infra.extras import extra_with, install_extra
from schemas.errors import StandgaleError
from standgale.commands import (
    dataset,
    dead,
    demo,
    detect,
    doctor,
    documents,
    edge,
    kafka,
    migrate,
    predict,
    replay,
    retention,
    rules,
    services,
    sink,
    source,
    statistics,
    tokens,
    topics,
)
from standgale.commands.context import Context
from standgale.commands.model import app as model
from standgale.consoles import PlainConsole, without_controls

_HELP = ("-h", "--help")


class _Verbs(TyperGroup):
    """Holds all verbs; the errors of their options repeat long arguments in short."""

    def make_context(self, *arguments: Any, **options: Any) -> Any:
        with _short_usage_errors():
            return super().make_context(*arguments, **options)

    def invoke(self, ctx: Any) -> Any:
        with _short_usage_errors():
            return super().invoke(ctx)


app = typer.Typer(
    name="standgale",
    cls=_Verbs,
    help="Finds small objects in aerial images and delivers every detection once.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": list(_HELP)},
)


@contextmanager
def _short_usage_errors() -> Iterator[None]:
    """Shorten the message of an error about options that the block raises; typer's and click's classes have one."""
    try:
        yield
    except Exception as error:
        if hasattr(error, "format_message") and isinstance(message := getattr(error, "message", None), str):
            error.message = _readable(message)  # type: ignore[attr-defined]
        raise


def _print_version(wanted: bool) -> None:
    if wanted:
        from importlib.metadata import version  # noqa: PLC0415 (takes milliseconds)

        typer.echo(f"standgale {version('standgale')}")
        raise typer.Exit


@app.callback()
def _common(
    context: typer.Context,
    config: Annotated[
        Path | None, typer.Option(help="A YAML file with settings; STANDGALE_… variables override it.")
    ] = None,
    _version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version and exit.")
    ] = False,
) -> None:
    context.obj = Context(config)


services.register(app)
detect.register(app)
predict.register(app)
demo.register(app)
doctor.register(app)
documents.register(app)
replay.register(app)
statistics.register(app)
app.add_typer(sink.app, name="sink")
app.add_typer(migrate.app, name="migrate")
app.add_typer(tokens.device_app, name="device")
app.add_typer(tokens.key_app, name="key")
app.add_typer(edge.app, name="edge")
app.add_typer(source.app, name="source")
app.add_typer(rules.app, name="rules")
app.add_typer(retention.app, name="retention")
app.add_typer(topics.app, name="topics")
app.add_typer(dead.app, name="dead")
app.add_typer(dataset.app, name="dataset")
app.add_typer(kafka.app, name="kafka")
app.add_typer(model.app, name="model")


def main() -> None:
    """Run the command line. Exits with 0, with 2 after an error that Standgale or the system names."""
    try:
        _run(sys.argv[1:])
    except StandgaleError as error:
        _print_error(error.code, str(error))
    except ModuleNotFoundError as error:
        extra = extra_with(error.name)
        if extra is None:
            raise
        _print_error(
            "NOT_INSTALLED", f"this command needs {error.name}, which is not installed; {install_extra(extra)}"
        )
    except MemoryError:
        _print_error("OUT_OF_MEMORY", "this machine, or its limit for a process, has no more; give it a smaller file")
    except OSError as error:
        # The file or folder of an option or a setting; what fails elsewhere is translated where it happens.
        if error.errno == errno.ENOSPC:
            _print_error("DISK_FULL", f"{error.strerror}; free some space, and run the command again")
        elif error.errno == errno.ENOMEM:
            _print_error("OUT_OF_MEMORY", f"{error.strerror}; give it more memory, or a smaller file")
        elif error.errno in (errno.EMFILE, errno.ENFILE):
            _print_error("OPEN_FILES", f"{error.strerror}; raise the limit of open files (ulimit -n)")
        elif error.filename is None:
            raise
        else:
            _print_error("FILE", f"{os.fsdecode(error.filename)}: {error.strerror}; give a path that can be used")
    sys.exit(2)


def _run(arguments: list[str]) -> None:
    """Run what ``arguments`` ask for; the help of a verb is printed at once.

    Typer would check the options that stand before the verb first, and load pydantic for it: a third of the time.
    """
    command: object = get_command(app)
    verbs = arguments[:-1]
    for verb in verbs:
        command = getattr(command, "commands", {}).get(verb)
    if verbs and arguments[-1] in _HELP and isinstance(command, TyperCommand | TyperGroup):
        command.main(["--help"], prog_name=" ".join(("standgale", *verbs)))
    else:
        app()


def _print_error(code: str, text: str) -> None:
    line = Text.assemble(("error", "red"), f" {code}: {without_controls(_readable(text))}")
    # Where standard error takes nothing (a log on a full disk), the exit status alone tells.
    with suppress(OSError):
        PlainConsole(stderr=True, soft_wrap=True, highlight=False).print(line)


def _readable(text: str) -> str:
    from standgale.error_lines import given_values, readable  # noqa: PLC0415 (loads pydantic, which help does not need)

    return readable(text, given_values(sys.argv[1:]))
