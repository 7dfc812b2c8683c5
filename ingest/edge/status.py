"""Writes the state of a running edge client to a file in its spool, and reads it with the spool for people."""

from __future__ import annotations

import asyncio
import logging
import os
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

import orjson
from pydantic import BaseModel, BeforeValidator, ValidationError

from infra.storage.durable_files import locked_folder
from infra.waiting import wait_until_set
from infra.written_files import write_whole
from ingest.edge.spool import refused
from ingest.edge.spool.counts import Counts
from ingest.edge.spool.frame_file import SUFFIX, DamagedFrameError, read_header
from ingest.edge.spool.spool import WAITING_FOLDER
from schemas.timestamps import format_utc

logger = logging.getLogger(__name__)

_FILE = "status.json"
_WRITE_EVERY_S = 1.0


def _plain(text: object) -> object:
    """Return ``text`` as UTF-8 can write it: names of files may have bytes that are no text."""
    return text.encode(errors="backslashreplace").decode() if isinstance(text, str) else text


_Text = Annotated[str, BeforeValidator(_plain)]


class RunningState(BaseModel):
    """Is what a running edge client writes each second."""

    started_at: str | None = None
    link_problem: _Text | None = None
    """Why frames are not sent now."""
    source_problem: _Text | None = None
    """What keeps the source from bringing frames, or which files are left."""
    last_sent_at: str | None = None
    last_error: _Text | None = None
    last_error_at: str | None = None
    counts: Counts = Counts()


@dataclass(frozen=True, slots=True)
class EdgeStatus:
    """Describes a spool and the client on it."""

    running: bool
    frames: int
    """Frames that wait."""
    size_bytes: int
    oldest_captured_at: str | None
    """The capture time of the first frame in the queue."""
    oldest_since: str | None
    """Since when it waits."""
    refused: int
    damaged: int
    state: RunningState

    @property
    def is_well(self) -> bool:
        """Whether the client runs and nothing needs a person or a better connection."""
        return self.running and self.state.link_problem is None and self.refused == self.damaged == 0


def read_state(folder: Path) -> RunningState:
    """Return the last state that was written in the spool ``folder``; empty when there is none, or it is damaged."""
    try:
        return RunningState.model_validate(orjson.loads((folder / _FILE).read_bytes()))
    except FileNotFoundError:
        return RunningState()
    except (OSError, orjson.JSONDecodeError, ValidationError) as error:
        logger.warning("%s cannot be read, so counts begin at 0: %s", folder / _FILE, type(error).__name__)
        return RunningState()


async def write_states(folder: Path, state: Callable[[], RunningState], stop: asyncio.Event) -> None:
    """Write the state when it has changed, each second until ``stop`` is set, and once then."""
    written = b""
    failed = False
    while True:
        stopping = stop.is_set()
        text = state().model_dump_json().encode()
        if text != written:
            try:
                await asyncio.to_thread(write_whole, folder / _FILE, text)
                written, failed = text, False
            except OSError as error:
                if not failed:
                    logger.warning("the status %s cannot be written: %s", folder / _FILE, error.strerror)
                failed = True
        if stopping:
            return
        await wait_until_set(stop, _WRITE_EVERY_S)


def read_status(folder: Path) -> EdgeStatus:
    """Return the state of the spool ``folder`` and of its client. Raises OSError when the folder cannot be read."""
    names: list[str] = []
    size_bytes = 0
    with suppress(FileNotFoundError), os.scandir(folder / WAITING_FOLDER) as entries:
        for entry in entries:
            if entry.name.endswith(SUFFIX):
                with suppress(FileNotFoundError):  # sent meanwhile
                    size_bytes += entry.stat().st_size
                    names.append(entry.name)
    captured_at, since = _oldest(folder / WAITING_FOLDER, sorted(names)[:1])
    return EdgeStatus(
        running=is_running(folder),
        frames=len(names),
        size_bytes=size_bytes,
        oldest_captured_at=captured_at,
        oldest_since=since,
        refused=refused.size_of(folder / refused.FOLDER)[0],
        damaged=sum(1 for _ in (folder / refused.DAMAGED_FOLDER).glob("*")),
        state=read_state(folder),
    )


def is_running(folder: Path) -> bool:
    """Return whether an edge client has the spool ``folder``."""
    try:
        with locked_folder(folder, exclusive=True, wait=False):
            return False
    except BlockingIOError:
        return True
    except FileNotFoundError:
        return False


def _oldest(folder: Path, names: list[str]) -> tuple[str | None, str | None]:
    for name in names:
        try:
            since = datetime.fromtimestamp((folder / name).stat().st_mtime, UTC)
            return format_utc(read_header(folder / name).captured_at), format_utc(since)
        except (OSError, DamagedFrameError):  # it was sent meanwhile, or the client sets it aside
            break
    return None, None
