"""Opens connections to the broker's file, creates its tables, and converts SQLite's errors to the broker's."""

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
    sqlite3.SQLITE_FULL: "the disk is full; free some space, the broker then continues without a restart",
    sqlite3.SQLITE_CORRUPT: "the file is damaged; stop all processes, restore a copy or move the file away",
    sqlite3.SQLITE_NOTADB: "the file is no broker file; choose another data_dir or move the file away",
    sqlite3.SQLITE_CANTOPEN: "it cannot be opened; check that its folder exists and may be written to",
    sqlite3.SQLITE_READONLY: "it may not be written to; change the permissions of the file and its folder",
    sqlite3.SQLITE_IOERR: "the disk reported an error; see the system's log and the disk's health",
}


def _primary_code(error: sqlite3.Error) -> int | None:
    # Errors of Python's own module (such as a closed connection) have no code.
    code = getattr(error, "sqlite_errorcode", None)
    return code & 0xFF if isinstance(code, int) else None


def unavailable(path: Path, error: sqlite3.Error) -> BrokerUnavailableError:
    """Return the broker's error for one of SQLite's; it names the file and what to do."""
    code = _primary_code(error)
    advice = _ADVICE.get(code) if code is not None else None
    if code == sqlite3.SQLITE_BUSY:
        holder = describe_holder(path)
        held = f"now by {holder}" if holder else "check whether one of them is stopped"
        advice = f"other processes kept it locked for {BUSY_WAIT_S:g} s, {held}"
    return BrokerUnavailableError(f"embedded broker {path}: {error}" + (f" ({advice})" if advice else ""))


def is_busy(error: sqlite3.Error) -> bool:
    """Return whether another connection held the lock, so that waiting helps."""
    return _primary_code(error) in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED)


def begin_write(connection: sqlite3.Connection) -> None:
    """Start a write transaction, and wait at most BUSY_WAIT_S for those of other processes.

    SQLite's own waiting sleeps longer each time, up to 0.1 s, so a process that writes rarely would lose against one
    that writes all the time. Short pauses with jitter give each a fair chance.
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
    """Open the connection for writing; with ``create``, create folder, file and tables that do not exist.

    A mark next to the file records that it was created. When only the mark exists, the file was moved away, and records
    in a new file would be missing from the old one. Raises sqlite3.Error or BrokerUnavailableError.
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
            # Switching a new file to WAL does not wait for other processes that do the same.
            if not isinstance(error, sqlite3.Error) or not is_busy(error) or time.monotonic() > deadline:
                raise
            time.sleep(random.uniform(_FIRST_PAUSE_S, _LONGEST_PAUSE_S))  # noqa: S311 (jitter, not a secret)
        else:
            return connection


def _mark(path: Path) -> Path:
    return path.with_name(path.name + ".made")


def _refuse_second(path: Path) -> None:
    # The mark is checked first: another process creates the file before the mark.
    if _mark(path).exists() and not path.exists():
        raise BrokerUnavailableError(
            f"embedded broker {path}: the file was created here before ({_mark(path).name} exists) and is missing; "
            "nothing is accepted or delivered. Put it back, with its -wal file, and everything continues with nothing "
            f"lost; only when it is lost permanently, remove {_mark(path)} to begin with an empty file"
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
            f"embedded broker {path}: {mark.name} cannot be written next to it ({error.strerror}); free disk space, "
            "or correct the rights of the folder"
        ) from error


def _make_folder(path: Path) -> None:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise BrokerUnavailableError(
            f"embedded broker {path}: its folder cannot be created ({error.strerror}); choose another data_dir"
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
            f"{SCHEMA_VERSION}); run that version or choose another data_dir"
        )
    if found == 0:
        for statement in SCHEMA:
            connection.execute(statement)
        # Distinguishes this file from one that is created later under the same name.
        connection.execute(f"PRAGMA application_id = {secrets.randbits(31)}")
        connection.execute(f"PRAGMA user_version = {SCHEMA_VERSION}")
    for statement in ADDED:
        connection.execute(statement)
    connection.execute("COMMIT")


def open_reader(path: Path) -> sqlite3.Connection:
    """Open a read-only connection to a file that :func:`open_writer` has created. Raises sqlite3.Error."""
    # A plain connect would create an empty file where the broker's was moved away.
    connection = _connect(path, "rw", BUSY_WAIT_S)
    connection.execute("PRAGMA query_only = ON")
    return connection


def close(connection: sqlite3.Connection, identity: FileIdentity) -> None:
    """Close ``connection``, unless a different file is in the place of its file.

    The last connection to a file removes its log by name, and the log of that name then belongs to the other file.
    """
    if identity.is_replaced():
        # The end of the interpreter must not close it either.
        ctypes.pythonapi.Py_IncRef(ctypes.py_object(connection))
    else:
        connection.close()
