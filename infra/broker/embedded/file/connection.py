"""Opens connections to the broker's file, with its schema, and turns SQLite's errors into the broker's."""

from __future__ import annotations

import ctypes
import random
import secrets
import sqlite3
import time
from pathlib import Path

from infra.broker.embedded.file.file_identity import FileIdentity
from infra.broker.embedded.file.locks import describe_holder
from infra.broker.embedded.file.sql import ADDED, SCHEMA, SCHEMA_VERSION
from infra.errors import BrokerUnavailableError
from infra.storage.durable_files import sync_folder

BUSY_WAIT_S = 10.0
"""How long a write waits for the other processes of the machine before it gives up."""
_FIRST_PAUSE_S = 0.0005
_LONGEST_PAUSE_S = 0.02

_ADVICE = {
    sqlite3.SQLITE_LOCKED: "another connection has it locked; try again",
    sqlite3.SQLITE_FULL: "the disk is full; free some space, the broker goes on by itself",
    sqlite3.SQLITE_CORRUPT: "the file is damaged; stop all processes, restore a copy or move the file away",
    sqlite3.SQLITE_NOTADB: "the file is no broker file; name another data_dir or move the file away",
    sqlite3.SQLITE_CANTOPEN: "it cannot be opened; see that its folder exists and may be written to",
    sqlite3.SQLITE_READONLY: "it may not be written to; change the permissions of the file and its folder",
    sqlite3.SQLITE_IOERR: "the disk reported an error; see the system's log and the disk's health",
}


def _primary_code(error: sqlite3.Error) -> int | None:
    # Errors that Python's module raises by itself (a closed connection) carry no code.
    code = getattr(error, "sqlite_errorcode", None)
    return code & 0xFF if isinstance(code, int) else None


def unavailable(path: Path, error: sqlite3.Error) -> BrokerUnavailableError:
    """The broker's error for one of SQLite's, naming the file and what to do."""
    code = _primary_code(error)
    advice = _ADVICE.get(code) if code is not None else None
    if code == sqlite3.SQLITE_BUSY:
        holder = describe_holder(path)
        held = f"now by {holder}" if holder else "see whether one of them is stopped"
        advice = f"other processes kept it locked for {BUSY_WAIT_S:g} s, {held}"
    return BrokerUnavailableError(f"embedded broker {path}: {error}" + (f" ({advice})" if advice else ""))


def is_busy(error: sqlite3.Error) -> bool:
    """Whether another connection was in the way and waiting helps."""
    return _primary_code(error) in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED)


def begin_write(connection: sqlite3.Connection) -> None:
    """Start a write transaction, waiting at most BUSY_WAIT_S for those of other processes.

    SQLite's own waiting sleeps ever longer, up to 0.1 s, so a process that asks rarely would lose against one that
    writes all the time. Short pauses with jitter give each a fair chance.
    """
    deadline = time.monotonic() + BUSY_WAIT_S
    pause = _FIRST_PAUSE_S
    while True:
        try:
            connection.execute("BEGIN IMMEDIATE")
        except sqlite3.OperationalError as error:
            if not is_busy(error) or time.monotonic() > deadline:
                raise
            time.sleep(pause * random.uniform(0.5, 1.0))  # noqa: S311 (jitter, not a secret)
            pause = min(pause * 1.5, _LONGEST_PAUSE_S)
        else:
            return


def commit(connection: sqlite3.Connection) -> None:
    """End the write transaction; its changes are on disk when this returns."""
    connection.execute("COMMIT")


def open_writer(path: Path, *, create: bool = True) -> sqlite3.Connection:
    """The connection for writing, with the schema; makes folder and file if there are none and ``create`` is set.

    A mark beside the file remembers that it was made. Where there is only the mark, the file was moved away, and an
    empty one in its place would take what the former one must answer for. Raises sqlite3.Error or
    BrokerUnavailableError.
    """
    if create:
        _make_folder(path)
        _refuse_second(path)
    deadline = time.monotonic() + BUSY_WAIT_S
    while True:
        connection = _connect(path, "rwc" if create else "rw", timeout_s=0)
        try:
            _prepare(path, connection)
            _mark_made(path)
        except (sqlite3.Error, BrokerUnavailableError) as error:
            connection.close()
            # Switching a new file to WAL does not wait for others who are doing the same.
            if not isinstance(error, sqlite3.Error) or not is_busy(error) or time.monotonic() > deadline:
                raise
            time.sleep(random.uniform(_FIRST_PAUSE_S, _LONGEST_PAUSE_S))  # noqa: S311 (jitter, not a secret)
        else:
            return connection


def _mark(path: Path) -> Path:
    return path.with_name(path.name + ".made")


def _refuse_second(path: Path) -> None:
    # The mark is looked for first: another process makes the file before the mark.
    if _mark(path).exists() and not path.exists():
        raise BrokerUnavailableError(
            f"embedded broker {path}: the file was made here before ({_mark(path).name} is there) and is gone; nothing "
            "is accepted or delivered. Put it back, with its -wal file, and all goes on with nothing lost; only when "
            f"it is gone for good, remove {_mark(path)} to begin with an empty file"
        )


def _mark_made(path: Path) -> None:
    mark = _mark(path)
    if mark.exists():
        return
    try:
        mark.touch()
        sync_folder(mark.parent)
    except OSError as error:
        raise BrokerUnavailableError(
            f"embedded broker {path}: {mark.name} cannot be written beside it ({error.strerror}); make room, or "
            "correct the rights of the folder"
        ) from error


def _make_folder(path: Path) -> None:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise BrokerUnavailableError(
            f"embedded broker {path}: its folder cannot be made ({error.strerror}); name another data_dir"
        ) from error


def _connect(path: Path, mode: str, timeout_s: float) -> sqlite3.Connection:
    uri = f"{path.absolute().as_uri()}?mode={mode}"
    return sqlite3.connect(uri, uri=True, timeout=timeout_s, isolation_level=None, check_same_thread=False)


def _prepare(path: Path, connection: sqlite3.Connection) -> None:
    connection.execute("PRAGMA journal_mode = WAL")
    connection.execute("PRAGMA synchronous = FULL")
    # macOS: only this empties the disk's own cache; other systems ignore it.
    connection.execute("PRAGMA fullfsync = 1")
    connection.execute("PRAGMA checkpoint_fullfsync = 1")
    connection.execute("PRAGMA wal_autocheckpoint = 4000")
    connection.execute("PRAGMA journal_size_limit = 67108864")
    begin_write(connection)
    (found,) = connection.execute("PRAGMA user_version").fetchone()
    if found not in (0, SCHEMA_VERSION):
        raise BrokerUnavailableError(
            f"embedded broker {path}: written by another version of Standgale (schema {found}, this one knows "
            f"{SCHEMA_VERSION}); run that version or name another data_dir"
        )
    if found == 0:
        for statement in SCHEMA:
            connection.execute(statement)
        # Tells this file from one that is made later under its name.
        connection.execute(f"PRAGMA application_id = {secrets.randbits(31)}")
        connection.execute(f"PRAGMA user_version = {SCHEMA_VERSION}")
    for statement in ADDED:
        connection.execute(statement)
    connection.execute("COMMIT")


def open_reader(path: Path) -> sqlite3.Connection:
    """A connection that only reads, of a file that :func:`open_writer` has made. Raises sqlite3.Error."""
    # A plain connect would make an empty file where the broker's has been taken away.
    connection = _connect(path, "rw", BUSY_WAIT_S)
    connection.execute("PRAGMA query_only = ON")
    return connection


def close(connection: sqlite3.Connection, identity: FileIdentity) -> None:
    """Close, unless another file is in the place of the connection's one.

    The last connection to a file removes its log by name, and the log of that name is then the other file's.
    """
    if identity.is_replaced():
        # Also the interpreter's end must not close it.
        ctypes.pythonapi.Py_IncRef(ctypes.py_object(connection))
    else:
        connection.close()
