"""Keeps on disk how far a replay is: which frames are published, which are about to be, and which were refused.

Before events are published, their ids and the ends of their partitions are written; afterwards the ids count as sent.
A process that was killed in between finds in the topic, from those ends on, which of them were published.
"""

from __future__ import annotations

import json
import sqlite3
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import TypeVar
from uuid import UUID

from infra.storage.durable_files import locked_folder, make_folder
from ingest.replay.errors import CheckpointError

T = TypeVar("T")

_SCHEMA = """
CREATE TABLE IF NOT EXISTS state (one INTEGER PRIMARY KEY CHECK (one = 1), value TEXT NOT NULL);
CREATE TABLE IF NOT EXISTS sent (id BLOB PRIMARY KEY) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS refused (position TEXT PRIMARY KEY, name TEXT NOT NULL, code TEXT NOT NULL,
                                    reason TEXT NOT NULL) WITHOUT ROWID;
"""
FILE = "checkpoint.sqlite"


@dataclass(frozen=True, slots=True)
class Refusal:
    """Says which item was refused, and why."""

    position: str
    name: str
    code: str
    reason: str


@dataclass(slots=True)
class ReplayState:
    """Says how far a replay is."""

    identity: dict[str, str | int | None] = field(default_factory=dict)
    """What it replays"""
    began_at: str = ""
    finished_at: str | None = None
    """When the whole source was replayed; None: not yet"""
    cursor: str | None = None
    """The position up to which all is done"""
    accepted: int = 0
    """Frames that are published, each counted once"""
    known: int = 0
    """Frames that this replay had published before, or that are twice in the source"""
    refused: int = 0
    size_bytes: int = 0
    """Of the pictures of accepted frames"""
    pending: list[str] = field(default_factory=list)
    """Ids of frames that are about to be published"""
    ends: dict[str, int] = field(default_factory=dict)
    """Where the partitions of these frames ended before"""
    reached: dict[str, int] = field(default_factory=dict)
    """Where these partitions end at least, since frames were published there"""
    recovered: list[str] = field(default_factory=list)
    """Those that were found published after a crash, and are not counted yet"""


class Checkpoint:
    """Holds the open checkpoint of one replay; call :meth:`write` in a thread, the rest anywhere."""

    def __init__(self, folder: Path, connection: sqlite3.Connection, reader: sqlite3.Connection) -> None:
        self.folder = folder
        self._writer = connection
        self._reader = reader
        self._writing = threading.Lock()
        self.state = self._read_state()

    def is_sent(self, frame: UUID) -> bool:
        """Return whether this replay has published ``frame``."""
        found = self._reading(
            lambda: self._reader.execute("SELECT 1 FROM sent WHERE id = ?", (frame.bytes,)).fetchone()
        )
        return found is not None

    def write(self, sent: Sequence[UUID] = (), refused: Sequence[Refusal] = ()) -> None:
        """Write the state durably, together with ids and refusals. Raises CheckpointError."""
        rows = [(each.position, *map(_text, (each.name, each.code, each.reason))) for each in refused]
        with self._writing, _translated(self.folder), self._writer:
            self._writer.execute("BEGIN IMMEDIATE")
            self._writer.executemany("INSERT OR IGNORE INTO sent VALUES (?)", [(each.bytes,) for each in sent])
            self._writer.executemany("INSERT OR REPLACE INTO refused VALUES (?, ?, ?, ?)", rows)
            value = json.dumps({each.name: getattr(self.state, each.name) for each in fields(ReplayState)})
            self._writer.execute("INSERT OR REPLACE INTO state VALUES (1, ?)", (value,))

    def forget_refused(self) -> None:
        """Forget all refusals, before the source is looked at again."""
        with self._writing, _translated(self.folder), self._writer:
            self._writer.execute("DELETE FROM refused")

    def refusals(self) -> Iterator[Refusal]:
        """Yield all refusals by position."""
        with _translated(self.folder):
            for row in self._reader.execute("SELECT position, name, code, reason FROM refused ORDER BY position"):
                yield Refusal(*row)

    def refused_by_code(self) -> Mapping[str, int]:
        """Return how many were refused, by code."""
        return dict(
            self._reading(lambda: self._reader.execute("SELECT code, count(*) FROM refused GROUP BY code").fetchall())
        )

    def _read_state(self) -> ReplayState:
        row = self._reading(lambda: self._reader.execute("SELECT value FROM state").fetchone())
        if row is None:
            return ReplayState()
        try:
            return ReplayState(**json.loads(row[0]))
        except (TypeError, ValueError) as error:
            raise CheckpointError(
                f"the checkpoint in {self.folder} is of another version of standgale ({error}); --restart begins anew"
            ) from error

    def _reading(self, call: Callable[[], T]) -> T:
        with _translated(self.folder):
            return call()


@contextmanager
def open_checkpoint(folder: Path, *, restart: bool = False) -> Iterator[Checkpoint]:
    """Open or make the checkpoint in ``folder`` for the block. Raises CheckpointError, also while it is in use."""
    try:
        make_folder(folder)
        with locked_folder(folder, exclusive=True, wait=False):
            if restart:
                for name in (FILE, f"{FILE}-wal", f"{FILE}-shm"):
                    (folder / name).unlink(missing_ok=True)
            with _connections(folder) as (writer, reader):
                yield Checkpoint(folder, writer, reader)
    except BlockingIOError as error:
        raise CheckpointError(
            f"another process replays with the checkpoint in {folder}; wait for it, or stop it"
        ) from error
    except OSError as error:
        if error.filename is None or not str(error.filename).startswith(str(folder)):
            raise
        raise CheckpointError(f"the checkpoint in {folder} cannot be used: {error.strerror}") from error


@contextmanager
def _connections(folder: Path) -> Iterator[tuple[sqlite3.Connection, sqlite3.Connection]]:
    opened: list[sqlite3.Connection] = []
    try:
        with _translated(folder):
            for _ in range(2):
                connection = sqlite3.connect(folder / FILE, isolation_level=None, check_same_thread=False, timeout=10.0)
                opened.append(connection)
                connection.execute("PRAGMA journal_mode = WAL")
                connection.execute("PRAGMA synchronous = FULL")
                connection.executescript(_SCHEMA)
        yield opened[0], opened[1]
    finally:
        for each in opened:
            each.close()


@contextmanager
def _translated(folder: Path) -> Iterator[None]:
    try:
        yield
    except sqlite3.Error as error:
        raise CheckpointError(
            f"the checkpoint in {folder} cannot be written or read: {error}; free some space on its disk, or check it. "
            "What was replayed stays, and the same command continues; a damaged checkpoint is begun anew by --restart"
        ) from error


def _text(text: str) -> str:
    return text.encode("utf-8", "replace").decode()


def ids_of(texts: Iterable[str]) -> set[UUID]:
    """Return ids that the state has as text."""
    return {UUID(text) for text in texts}
