"""Remembers in a small SQLite file which frames were sent, which belong to a flight, and which files were taken.

It is a convenience: without it frames would be sent again, and the gateway recognises them by their id. So a damaged
file is replaced by an empty one, and a power cut may undo the last entries.
"""

from __future__ import annotations

import logging
import os
import sqlite3
import threading
from contextlib import suppress
from pathlib import Path
from urllib.parse import quote

logger = logging.getLogger(__name__)

_MOST_ROWS = 1_000_000
_PRUNE_EVERY = 10_000
_SCHEMA = """
CREATE TABLE IF NOT EXISTS sent (number INTEGER PRIMARY KEY, key TEXT NOT NULL UNIQUE);
CREATE TABLE IF NOT EXISTS taken (
    number INTEGER PRIMARY KEY, path TEXT NOT NULL UNIQUE, size INTEGER NOT NULL, mtime_ns INTEGER NOT NULL
);
CREATE TABLE IF NOT EXISTS of_flight (
    number INTEGER PRIMARY KEY, flight TEXT NOT NULL, key TEXT NOT NULL, UNIQUE (flight, key)
);
"""


class History:
    """Is usable from any thread; keeps the newest million entries of each kind."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._lock = threading.Lock()
        self._added = 0
        self._former: sqlite3.Connection | None = None
        try:
            self._connection = self._open(self._path)
        except sqlite3.OperationalError as error:
            # The disk is full, perhaps: sending makes room, and what was sent is not forgotten for that.
            logger.warning(
                "%s cannot be written (%s); what is sent until the next start may be sent once more then", path, error
            )
            self._connection = self._open(":memory:")
            address = f"file:{quote(os.fsencode(path))}?mode=ro&immutable=1"
            with suppress(sqlite3.Error):
                self._former = sqlite3.connect(address, uri=True, check_same_thread=False)
        except sqlite3.DatabaseError as error:
            logger.warning(
                "%s is damaged (%s) and is begun anew; frames that were sent before may be sent once more", path, error
            )
            for each in (path, Path(f"{path}-wal"), Path(f"{path}-shm")):
                each.unlink(missing_ok=True)
            self._connection = self._open(self._path)

    def close(self) -> None:
        """Close the file."""
        with self._lock:
            self._connection.close()
            if self._former is not None:
                self._former.close()

    def was_sent(self, key: str) -> bool:
        """Return whether the frame ``key`` was sent."""
        return self._find("SELECT 1 FROM sent WHERE key = ?", key) is not None

    def add_sent(self, key: str) -> None:
        """Note that the frame ``key`` was sent."""
        self._write("INSERT OR IGNORE INTO sent (key) VALUES (?)", key)

    def add_to_flight(self, flight: str, key: str) -> None:
        """Note that the frame ``key`` belongs to ``flight``."""
        self._write("INSERT OR IGNORE INTO of_flight (flight, key) VALUES (?, ?)", flight, key)

    def frames_of(self, flight: str) -> int:
        """Return how many frames belong to ``flight``. Raises sqlite3.Error: a wrong number must not be told."""
        with self._lock:
            found = self._connection.execute("SELECT count(*) FROM of_flight WHERE flight = ?", (flight,)).fetchone()
        return int(found[0])

    def forget_sent(self, key: str) -> None:
        """Forget that the frame ``key`` was sent."""
        self._write("DELETE FROM sent WHERE key = ?", key)

    def was_taken(self, path: str, size: int, mtime_ns: int) -> bool:
        """Return whether the file ``path`` was taken as it is now."""
        query = "SELECT 1 FROM taken WHERE path = ? AND size = ? AND mtime_ns = ?"
        return self._find(query, _bound(path), size, mtime_ns) is not None

    def add_taken(self, path: str, size: int, mtime_ns: int) -> None:
        """Note that the file ``path`` was taken as it is now."""
        self._write(
            "INSERT OR REPLACE INTO taken (path, size, mtime_ns) VALUES (?, ?, ?)", _bound(path), size, mtime_ns
        )

    def _open(self, path: Path | str) -> sqlite3.Connection:
        connection = sqlite3.connect(path, check_same_thread=False, isolation_level=None, timeout=10.0)
        try:
            connection.execute("PRAGMA journal_mode = WAL")
            connection.execute("PRAGMA synchronous = NORMAL")
            connection.executescript(_SCHEMA)
        except BaseException:
            connection.close()
            raise
        return connection

    def _find(self, query: str, *values: object) -> object:
        # A read that fails counts as "no": the frame is then sent again, which does no harm.
        for connection in (self._connection, self._former):
            with self._lock, suppress(sqlite3.Error):
                found = None if connection is None else connection.execute(query, values).fetchone()
                if found is not None:
                    return found
        return None

    def _write(self, statement: str, *values: object) -> None:
        with self._lock:
            try:
                self._connection.execute(statement, values)
                self._added += 1
                if self._added % _PRUNE_EVERY == 1:
                    for table in ("sent", "taken", "of_flight"):
                        self._connection.execute(
                            f"DELETE FROM {table} WHERE number <= (SELECT max(number) FROM {table}) - ?",  # noqa: S608
                            (_MOST_ROWS,),
                        )
            except sqlite3.Error as error:
                logger.warning("%s cannot be written (%s); a frame may be sent once more", self._path, error)


def _bound(path: str) -> str | bytes:
    """Return ``path`` as SQLite takes it: names of files may have bytes that are no text."""
    try:
        path.encode()
    except UnicodeEncodeError:
        return os.fsencode(path)
    return path
