"""Defines `standgale edge`, `edge status` and `edge retry`: sends the pictures of a folder from a device."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from infra.texts import counted
from standgale.commands.context import JsonOption, context_of, print_json

if TYPE_CHECKING:
    from ingest.edge.status import EdgeStatus
    from ingest.edge.video_source import VideoFrames
    from standgale.settings import Settings

app = typer.Typer(help="Send the pictures of a folder or a camera to a gateway, and keep them while it is unavailable.")

_FolderOption = Annotated[Path | None, typer.Option(help="The folder to watch (edge.folder).")]
_UrlOption = Annotated[str | None, typer.Option(help="The gateway's address, as https://gateway:8000 (edge.url).")]
_SpoolOption = Annotated[Path | None, typer.Option(help="The folder that keeps frames (edge.spool).")]
_VideoOption = Annotated[str | None, typer.Option(help="A video or camera: a file, http:// or rtsp:// (edge.video).")]
_FlightOption = Annotated[str | None, typer.Option(help="The flight of the frames that are taken (edge.flight).")]
_UntilOption = Annotated[
    str | None,
    typer.Option(help="When to end: stopped, sent (all in the folder), or closed (the flight, too) (edge.until)."),
]
_DeleteOption = Annotated[
    bool, typer.Option("--delete", help="Delete files once they are safe in the spool (edge.release).")
]


@app.callback(invoke_without_command=True)
def edge(
    context: typer.Context,
    folder: _FolderOption = None,
    video: _VideoOption = None,
    url: _UrlOption = None,
    spool: _SpoolOption = None,
    delete: _DeleteOption = False,
    flight: _FlightOption = None,
    until: _UntilOption = None,
) -> None:
    """Watch a folder and send its pictures; STANDGALE_EDGE__TOKEN has the token, or …__TOKEN_FILE names its file."""
    if context.invoked_subcommand is not None:
        return
    from infra.process.run_until_signal import run_until_signal
    from infra.process.settings_sources import secret_file
    from infra.telemetry.logs import configure_logging
    from ingest.edge.run import require_settings, run_edge

    settings = context_of(context).settings(
        edge__folder=folder,
        edge__video=video,
        edge__url=url,
        edge__spool=spool,
        edge__release="delete" if delete else None,
        edge__flight=flight,
        edge__until=until,
    )
    token_file = secret_file("edge.token")
    require_settings(settings.edge, settings.edge_spool, token_file)
    configure_logging(settings.telemetry, service="edge", secrets=secrets_to_mask(settings))
    sources = []
    if settings.edge.video is not None:
        sources.append(_video_frames(settings))
    running = run_edge(settings.edge, settings.edge_spool, token_file, lambda _: sources)
    raise typer.Exit(run_until_signal(running))


@app.command()
def status(context: typer.Context, spool: _SpoolOption = None, as_json: JsonOption = False) -> None:
    """Show what waits in the spool and whether it is sent; exits with 1 when something is wrong."""
    from dataclasses import asdict

    from ingest.edge.status import read_status

    settings = context_of(context).settings(edge__spool=spool)
    found = read_status(settings.edge_spool)
    if as_json:
        print_json({**asdict(found), "state": found.state.model_dump(), "well": found.is_well})
    else:
        if not settings.edge_spool.is_dir():
            spool_name = settings.edge.named("spool")
            text = f"{spool_name} is {settings.edge_spool}, which does not exist; give the client's spool"
            context_of(context).notes.print(text, highlight=False, soft_wrap=True)
        for name, value in _lines(found):
            context_of(context).out.print(f"{name:<18} {value}", highlight=False, soft_wrap=True)
    raise typer.Exit(0 if found.is_well else 1)


@app.command()
def retry(context: typer.Context, spool: _SpoolOption = None) -> None:
    """Put the frames that were refused back into the spool, for example after a limit of the gateway was raised."""
    from infra.process.run_until_signal import run_until_signal
    from ingest.edge.retry import retry_refused

    settings = context_of(context).settings(edge__spool=spool)
    count = run_until_signal(retry_refused(settings.edge, settings.edge_spool))
    context_of(context).out.print(f"{counted(count, 'frame')} put back into the spool", highlight=False)


def _video_frames(settings: Settings) -> VideoFrames:
    """Return the source of edge.video. Raises NotInstalledError that names all extras that it needs."""
    from infra.extras import NotInstalledError, extra_with, install_extra

    try:
        from ingest.edge.video_source import VideoFrames
    except ModuleNotFoundError as error:
        if extra_with(error.name) is None:
            raise
        raise NotInstalledError(
            f"to read a video this command needs {error.name}, which is not installed; "
            f"{install_extra('server', 'video')}"
        ) from error
    return VideoFrames(settings.edge, settings.video)


def secrets_to_mask(settings: Settings) -> set[str]:
    """Return what no log may show; the address of a video is not among it when logs show all of it anyway."""
    from infra.secrets import secrets_of
    from ingest.video.options import parse_address

    video = settings.edge.video
    return secrets_of(settings) - ({str(parse_address(video.get_secret_value()))} if video else set())


def _lines(found: EdgeStatus) -> list[tuple[str, object]]:
    state, counts = found.state, found.state.counts
    lines: list[tuple[str, object]] = [
        ("running", "yes" if found.running else "no"),
        ("in the spool", f"{counted(found.frames, 'frame')}, {found.size_bytes:,} bytes"),
    ]
    if found.oldest_captured_at is not None:
        lines.append(("oldest", f"captured {found.oldest_captured_at}, waits since {found.oldest_since}"))
    lines += [
        ("gateway", state.link_problem or ("takes frames" if state.last_sent_at else "nothing sent yet")),
        ("source", state.source_problem or "no problem"),
        ("sent", f"{counts.sent:,}, the last at {state.last_sent_at or '-'}"),
        ("refused", f"{found.refused} set aside in the folder refused"),
        ("damaged", f"{found.damaged} set aside in the folder damaged"),
        ("dropped", f"{counts.dropped_oldest} oldest, {counts.dropped_newest} newest"),
    ]
    if state.last_error is not None:
        lines.append(("last error", f"{state.last_error_at}: {state.last_error}"))
    return lines
