"""Runs the edge client: its sources, the sender and the status, until it is stopped."""

from __future__ import annotations

import asyncio
import logging
import os
from collections.abc import Callable, Coroutine, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from infra.errors import SettingsError
from infra.process.stopping import stop_signals
from infra.storage.durable_files import locked_folder, make_folder
from infra.texts import counted
from infra.waiting import wait_until_set
from ingest.edge.ending import close_flight_of, report_left, stop_when_sent
from ingest.edge.folder.source import FolderSource
from ingest.edge.port import FrameSource
from ingest.edge.sending.bandwidth import Bandwidth
from ingest.edge.sending.fields import FrameFields
from ingest.edge.sending.gateway import GatewayConnection
from ingest.edge.sending.known import KnownImages
from ingest.edge.sending.sender import Sender
from ingest.edge.sending.stream import BacklogStream
from ingest.edge.sending.turns import Turns
from ingest.edge.sending.upload import Uploader
from ingest.edge.settings import EdgeSettings
from ingest.edge.spool.spool import Spool
from ingest.edge.status import RunningState, read_state, write_states
from ingest.video.options import parse_address
from schemas.errors import StandgaleError
from schemas.timestamps import format_utc, utc_now

logger = logging.getLogger(__name__)

_LOOPBACK = ("localhost", "127.0.0.1", "::1")
_LOOK_EVERY_S = 1.0

MakeSources = Callable[[Spool], Sequence[FrameSource]]


def require_settings(settings: EdgeSettings, spool: Path, token_file: Path | None) -> None:
    """Raise SettingsError when the client cannot start with ``settings``; nothing is written."""
    _require_addresses(settings)
    if settings.token is None and token_file is None:
        raise SettingsError(
            f"{settings.named('token')} is not set; give the token that `standgale device add` printed, or a file with "
            f"it as {settings.variable('token')}_FILE"
        )
    if settings.folder is not None:
        _require_folder(settings, settings.folder, spool)


def _require_addresses(settings: EdgeSettings) -> None:
    if settings.url is None:
        raise SettingsError(f"{settings.named('url')} is not set; give it, for example https://gateway.example:8000")
    if settings.folder is None and settings.video is None:
        raise SettingsError(
            f"{settings.named('folder')} is not set; give it, for example /media/camera, or a camera as "
            f"{settings.named('video')}"
        )
    if settings.video is not None:
        address = parse_address(settings.video.get_secret_value())
        if isinstance(address, Path) and address.is_char_device():
            raise SettingsError(
                f"{settings.named('video')} is {address}, a device, and devices (V4L2) are not read; let a program "
                f"such as ffmpeg write pictures into a folder, and give that as {settings.named('folder')} "
                "(docs/edge.md)"
            )


def _require_folder(settings: EdgeSettings, folder: Path, spool: Path) -> None:
    if not folder.is_dir():
        raise SettingsError(f"{settings.named('folder')} is {folder}, which is no folder; create it, or give another")
    needed = os.R_OK | os.X_OK | (os.W_OK if settings.release == "delete" else 0)
    if not os.access(folder, needed):
        wanted = "read" if settings.release == "keep" else "read and deleted from, because edge.release is delete"
        raise SettingsError(f"{settings.named('folder')} is {folder}, which cannot be {wanted}; change its rights")
    watched, kept = folder.resolve(), spool.resolve()
    if kept == watched or kept.is_relative_to(watched) or watched.is_relative_to(kept):
        raise SettingsError(
            f"{settings.named('spool')} is {spool}, and {settings.named('folder')} is {folder}; neither may be in the "
            "other: give another spool (--spool)"
        )


async def run_edge(
    settings: EdgeSettings, spool_folder: Path, token_file: Path | None, make_sources: MakeSources | None = None
) -> int:
    """Run until SIGTERM or SIGINT; return the exit status.

    ``make_sources`` makes other sources beside the folder of ``settings``. Raises SettingsError when another client has
    the spool, or a setting is wrong.
    """
    require_settings(settings, spool_folder, token_file)
    with _locked(settings, spool_folder):
        former = read_state(spool_folder)
        spool = Spool(spool_folder, settings, former.counts)
        try:
            async with GatewayConnection(settings, token_file) as connection:
                sources = [*_sources(settings, spool), *(make_sources(spool) if make_sources else ())]
                return await _run(settings, spool_folder, spool, connection, sources)
        finally:
            spool.close()


def make_sender(spool: Spool, connection: GatewayConnection, settings: EdgeSettings) -> Sender:
    """Return what sends the frames of ``spool`` over ``connection``."""
    fields, bandwidth, turns = FrameFields(settings), Bandwidth(settings.max_bytes_per_s), Turns(settings.backlog_share)
    sender = Sender(spool, Uploader(connection, settings, fields, bandwidth, turns).send, settings)
    known = sender.known = KnownImages(spool, connection, enabled=settings.ask_known)
    if settings.use_stream:
        answered = sender.backlog_outcomes
        sender.stream = BacklogStream(spool, connection, settings, fields, known, bandwidth, turns, answered)
    return sender


def _sources(settings: EdgeSettings, spool: Spool) -> Sequence[FrameSource]:
    if settings.folder is None:
        return []
    return [FolderSource(settings.folder.resolve(), settings, spool.history)]


@contextmanager
def _locked(settings: EdgeSettings, spool: Path) -> Iterator[None]:
    try:
        make_folder(spool)
        with locked_folder(spool, exclusive=True, wait=False):
            yield
    except BlockingIOError as error:
        raise SettingsError(
            f"{settings.named('spool')} is {spool}, which another edge client has; stop it, or give another folder"
        ) from error


async def _run(
    settings: EdgeSettings,
    folder: Path,
    spool: Spool,
    connection: GatewayConnection,
    sources: Sequence[FrameSource],
) -> int:
    """Run everything side by side; the first that fails stops the others."""
    started_at = format_utc(utc_now())
    sender = make_sender(spool, connection, settings)

    def state() -> RunningState:
        problems = [each.problem for each in sources if each.problem is not None]
        link = sender.link
        return RunningState(
            started_at=started_at,
            link_problem=link.problem,
            source_problem="; ".join(problems) or None,
            last_sent_at=link.last_sent_at,
            last_error=link.last_error,
            last_error_at=link.last_error_at,
            counts=spool.counts,
        )

    stop, hurry, all_ended, all_sent = (asyncio.Event() for _ in range(4))
    _log_start(
        settings, spool, " and ".join(str(settings.folder) if each.name == "folder" else each.name for each in sources)
    )
    with stop_signals(stop, hurry):
        status = asyncio.create_task(write_states(folder, state, all_ended))
        bringing = [each.run(spool, stop) for each in sources]
        if settings.until != "stopped":
            bringing = [stop_when_sent(bringing, spool, stop, all_sent)]
        work = [sender.run(stop), _watch_spool(spool, stop), *bringing]
        clean = await _until_stopped(work, stop)
        all_ended.set()
        await status
    logger.info("stopped; %s in the spool", counted(spool.frames, "frame"))
    if settings.until != "stopped" and not (clean and all_sent.is_set()):
        logger.error("the client ended before everything was sent (edge.until is %s)", settings.until)
        return 1
    if settings.until != "stopped":
        clean = report_left(sources)
    if settings.until == "closed":
        clean = await close_flight_of(settings, spool, connection, hurry, may_close=clean)
    return 0 if clean else 1


async def _watch_spool(spool: Spool, stop: asyncio.Event) -> None:
    """Return at the stop. Raises SpoolGoneError; who has the lock of a folder that is gone has none of the new one."""
    while not stop.is_set():
        spool.require_there()
        await wait_until_set(stop, _LOOK_EVERY_S)


async def _until_stopped(work: Sequence[Coroutine[None, None, None]], stop: asyncio.Event) -> bool:
    """Run ``work`` to its end; return whether none failed. A source may end before the stop: a video does."""
    tasks = [asyncio.create_task(each) for each in work]
    clean = True
    try:
        for done in asyncio.as_completed(tasks):
            try:
                await done
            except StandgaleError as error:
                logger.error("%s", error, extra={"code": error.code})
                clean = False
                stop.set()
            except Exception:
                logger.exception("the edge client failed and stops; frames in the spool are kept")
                clean = False
                stop.set()
    finally:
        for task in tasks:
            task.cancel()
    return clean


def _log_start(settings: EdgeSettings, spool: Spool, names: str) -> None:
    url = settings.url or ""
    if url.startswith("http:") and not any(f"//{host}" in url for host in _LOOPBACK):
        logger.warning("the token travels unencrypted, because %s has no TLS; give edge.url with https://", url)
    logger.info("frames from %s are sent to %s; %s in the spool", names, url, counted(spool.frames, "frame"))
