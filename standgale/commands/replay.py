"""Defines `standgale replay`: gives archived frames to the detectors, each once, without delaying live ones."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Annotated

import typer

from infra.errors import SettingsError
from infra.texts import counted
from standgale.commands.context import JsonOption, context_of, print_json, run_async
from standgale.commands.times import parse_time

if TYPE_CHECKING:
    from ingest.replay.progress import Progress
    from ingest.replay.report import ReplayResult
    from schemas.event_base import ModelRef
    from standgale.replays import AlreadyDone, ReplayRequest

_LINE_EVERY_S = 10.0
_LOOK_S = 1.0
_BAR_EVERY_S = 0.25

_SourceArgument = Annotated[
    str | None,
    typer.Argument(
        help="A folder, a zip or tar archive, a video file, s3://bucket/prefix, or lakefs://repository/ref/path."
    ),
]
_DeviceOption = Annotated[
    str | None, typer.Option(help="The device that took the frames; of a topic, only its frames.")
]
_TopicOption = Annotated[
    str | None, typer.Option(help="Instead of a source: a topic whose frames are published again, like frames.live.")
]
_SinceOption = Annotated[
    str | None, typer.Option("--from", help="With --topic: from this time on (UTC), as 2026-05-01T12:00:00.")
]
_UntilOption = Annotated[str | None, typer.Option("--to", help="With --topic: up to this time (UTC); default now.")]
_ModelOption = Annotated[
    str | None, typer.Option(help="Replay only if this model, as NAME@VERSION, is active for these frames.")
]
_NameOption = Annotated[str | None, typer.Option(help="The name of the checkpoint; default one of source and device.")]
_RateOption = Annotated[float | None, typer.Option(min=0.001, help="The most frames per second (replay.rate).")]
_BytesOption = Annotated[int | None, typer.Option(min=1, help="The most bytes per second (replay.max_bytes_per_s).")]
_EveryOption = Annotated[int, typer.Option(min=1, help="Of a video only every n-th frame.")]
_StartOption = Annotated[str | None, typer.Option(help="Of a video: when its first frame was taken (UTC).")]
_DryOption = Annotated[bool, typer.Option("--dry-run", help="Read everything, and say what would be replayed.")]
_AgainOption = Annotated[
    bool, typer.Option("--again", help="Look at a finished source again, and send only frames that were not sent.")
]
_RestartOption = Annotated[
    bool, typer.Option("--restart", help="Forget the checkpoint, and send all frames again; their ids stay the same.")
]


def register(app: typer.Typer) -> None:
    """Add the verb to ``app``."""
    app.command()(replay)


def replay(  # noqa: PLR0913, PLR0917 (one per option of the verb)
    context: typer.Context,
    source: _SourceArgument = None,
    device: _DeviceOption = None,
    topic: _TopicOption = None,
    since: _SinceOption = None,
    until: _UntilOption = None,
    model: _ModelOption = None,
    name: _NameOption = None,
    rate: _RateOption = None,
    max_bytes_per_s: _BytesOption = None,
    every: _EveryOption = 1,
    start: _StartOption = None,
    dry_run: _DryOption = False,
    again: _AgainOption = False,
    restart: _RestartOption = False,
    as_json: JsonOption = False,
) -> None:
    """Replay archived frames through the detectors, after live ones; the same command continues after an interruption.

    Exits with 0 when all frames are accepted or known, with 1 when some were refused.
    """
    import asyncio

    from ingest.replay.progress import Progress
    from standgale.replays import AlreadyDone, ReplayRequest, run_replay

    settings = context_of(context).settings(replay__rate=rate, replay__max_bytes_per_s=max_bytes_per_s)
    request = ReplayRequest(
        source,
        device,
        name,
        topic or "",
        parse_time("--from", since),
        parse_time("--to", until),
        None if model is None else _model(model),
        every,
        parse_time("--start", start),
        dry_run,
        again,
        restart,
    )
    _require_sensible(request)
    progress = Progress()

    async def work() -> ReplayResult | AlreadyDone:
        with _shown(context, progress):
            try:
                return await run_replay(settings, request, progress)
            except asyncio.CancelledError:
                context_of(context).notes.print(f"stopped ({_status(progress)}); the same command continues")
                raise

    found = run_async(work())
    if isinstance(found, AlreadyDone):
        _print_done(context, found, as_json=as_json)
        return
    if as_json:
        from dataclasses import asdict

        print_json({**asdict(found), "dry_run": dry_run})
    else:
        for line in _lines(found, progress, dry=dry_run, rate=settings.replay.rate):
            context_of(context).out.print(line, highlight=False, soft_wrap=True)
    raise typer.Exit(1 if found.refused else 0)


def _require_sensible(request: ReplayRequest) -> None:
    """Raise SettingsError for options that do not fit each other."""
    from re import fullmatch

    from schemas.event_base import DEVICE_ID_PATTERN
    from schemas.timestamps import format_utc, utc_now
    from schemas.topics import FRAME_TOPICS, FRAMES_BACKFILL

    if (request.address is None) != bool(request.topic):
        raise SettingsError("give either a source (a folder, an archive, a video, s3://… or lakefs://…), or --topic")
    if request.device is not None and fullmatch(DEVICE_ID_PATTERN, request.device) is None:
        raise SettingsError(
            f"--device is {request.device[:100]!r}; a device id has letters, digits, dots, dashes and underscores"
        )
    if request.again and request.restart:
        raise SettingsError("give one of --again and --restart: one sends only new frames, the other sends all")
    if request.address is not None:
        if request.device is None:
            raise SettingsError("--device is missing: it names the device that took the pictures")
        if request.since is not None or request.until is not None:
            raise SettingsError("--from and --to are for --topic")
        return
    sources = [each for each in FRAME_TOPICS if each != FRAMES_BACKFILL]
    if request.topic not in sources:
        raise SettingsError(f"--topic is {request.topic!r}; it takes {' or '.join(sources)}")
    if request.since is None:
        raise SettingsError("--from is missing: the time of the first frame to replay, as 2026-05-01T12:00:00")
    if request.until is not None and request.until <= request.since:
        raise SettingsError("--to is not after --from, so there is nothing to replay")
    now = utc_now()
    if request.since > now:
        raise SettingsError(
            f"--from is {format_utc(request.since)}, which is in the future; it is {format_utc(now)} now"
        )
    if request.until is not None and request.until > now:
        raise SettingsError(
            f"--to is {format_utc(request.until)}, which is in the future: frames that come until then would be left "
            "out. Without --to all frames that are there now are replayed"
        )


def _model(text: str) -> ModelRef:
    from pydantic import ValidationError

    from schemas.event_base import ModelRef

    name, _, version = text.rpartition("@")
    try:
        return ModelRef(name=name, version=version)
    except ValidationError as error:
        raise SettingsError(
            f"--model is {text[:200]!r}; it takes NAME@VERSION, like standgale model list shows"
        ) from error


def _print_done(context: typer.Context, done: AlreadyDone, *, as_json: bool) -> None:
    if as_json:
        from dataclasses import asdict

        print_json({**asdict(done), "already_done": True})
        return
    context_of(context).out.print(
        f"{done.name} is complete since {done.finished_at} ({counted(done.accepted, 'frame')}); nothing was sent. "
        "--again looks for new frames and sends only those, --restart sends all again",
        highlight=False,
        soft_wrap=True,
    )


def _lines(found: ReplayResult, progress: Progress, *, dry: bool, rate: float | None) -> Iterator[str]:
    would = "would be " if dry else ""
    yield f"{counted(found.accepted, 'frame')} {would}accepted, {found.size_bytes:,} bytes"
    if not (found.accepted or found.known or found.refused):
        yield "no frame was found: correct the source (of a topic, time range and device) if there should be some"
    if found.known:
        yield f"{found.known} known already"
    if found.passed_over:
        yield f"{counted(found.passed_over, 'file')} passed over: no pictures by their names (replay.suffixes)"
    yield from found.notes
    for each in found.refused_first:
        yield f"refused: {each['name']}: {each['reason']} ({each['code']})"
    if found.refused > len(found.refused_first):
        yield f"and {found.refused - len(found.refused_first)} more refused"
    if found.refused_file:
        yield f"{counted(found.refused, 'refused item')} with the reason: {found.refused_file}"
    if dry:
        speed = min(rate or progress.per_s, progress.per_s)
        yield f"a replay will take about {_duration(found.accepted / speed if speed else 0)}, if detectors keep up"


def _duration(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{rest:02d}"


@contextmanager
def _shown(context: typer.Context, progress: Progress) -> Iterator[None]:
    """Show the progress for the block: a bar on a terminal, else a line from time to time."""
    import asyncio

    notes = context_of(context).notes
    work = _bar(context, progress) if notes.is_terminal else _log(context, progress)
    task = asyncio.get_running_loop().create_task(work)
    try:
        yield
    finally:
        task.cancel()


async def _log(context: typer.Context, progress: Progress) -> None:
    """Print a line from time to time, and at once when it begins to wait."""
    import asyncio

    shown_s, waited = asyncio.get_running_loop().time(), False
    while True:
        await asyncio.sleep(_LOOK_S)
        now_s = asyncio.get_running_loop().time()
        if now_s - shown_s >= _LINE_EVERY_S or (progress.waits and not waited):
            context_of(context).notes.print(_status(progress), highlight=False, soft_wrap=True)
            shown_s, waited = now_s, bool(progress.waits)


async def _bar(context: typer.Context, progress: Progress) -> None:
    import asyncio

    from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn
    from rich.progress import Progress as Bar

    columns = (BarColumn(), MofNCompleteColumn(), TimeRemainingColumn(), TextColumn("{task.description}"))
    with Bar(*columns, console=context_of(context).notes, transient=True) as bar:
        task = bar.add_task("", total=None)
        while True:
            totals = progress.totals
            bar.update(
                task,
                total=None if totals is None else totals.items,
                completed=progress.before + progress.done,
                description=_status(progress, short=True),
            )
            await asyncio.sleep(_BAR_EVERY_S)


def _status(progress: Progress, *, short: bool = False) -> str:
    parts = []
    if not short:
        total = "" if progress.totals is None else f" of {progress.totals.items}"
        parts.append(f"{progress.before + progress.done}{total}")
        if progress.left_s is not None:
            parts.append(f"{_duration(progress.left_s)} left")
    parts.append(f"{progress.per_s:.1f}/s")
    if progress.refused:
        parts.append(f"{progress.refused} refused")
    parts += [f"waits: {reason}" for reason in progress.waits.values()]
    return ", ".join(parts)
