"""Opens the broker file once per process, and shares its writer, reader threads and change watcher with all clients."""

from __future__ import annotations

import asyncio
import contextlib
import sqlite3
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TypeVar

from infra.broker.embedded.file.connection import close, open_reader, unavailable
from infra.broker.embedded.file.file_identity import FileIdentity
from infra.broker.embedded.watcher import ChangeWatcher
from infra.broker.embedded.writer import TransactionWriter
from infra.broker.port import OutRecord
from infra.errors import BrokerUnavailableError
from schemas.topics import TopicSpec

T = TypeVar("T")

_READ_THREADS = 2


class Store:
    """Gives one process access to the file. SQLite never runs on the event loop."""

    def __init__(self, path: Path, declared: Mapping[str, TopicSpec]) -> None:
        self.path = path
        self.declared = declared
        self._identity = FileIdentity(path)
        self.watcher = ChangeWatcher(self._identity)
        self.writer = TransactionWriter(self._identity, declared, self.watcher.poke)
        self._readers = ThreadPoolExecutor(_READ_THREADS, thread_name_prefix="embedded-broker-reader")
        self._mine = threading.local()
        self._connections: list[sqlite3.Connection] = []
        self._closed = False

    async def read(self, work: Callable[[sqlite3.Connection], T]) -> T:
        """Run ``work`` on a read-only connection and return its result.

        Raises BrokerUnavailableError, and what ``work`` raises.
        """
        if self._closed:
            raise BrokerUnavailableError(f"embedded broker {self.path}: closed by this process")
        return await asyncio.get_running_loop().run_in_executor(self._readers, self._read, work)

    def _read(self, work: Callable[[sqlite3.Connection], T]) -> T:
        self._identity.check()
        try:
            with self._connection() as connection:
                return work(connection)
        except sqlite3.Error as error:
            raise unavailable(self.path, error) from error

    @contextlib.contextmanager
    def _connection(self) -> Iterator[sqlite3.Connection]:
        """Yield this thread's connection in a transaction, so that all reads of one call see the same state."""
        connection: sqlite3.Connection | None = getattr(self._mine, "connection", None)
        if connection is None:
            connection = open_reader(self.path)
            self._mine.connection = connection
            self._connections.append(connection)
        connection.execute("BEGIN")
        try:
            yield connection
        finally:
            connection.execute("ROLLBACK")

    async def close(self) -> None:
        """End all threads after their current work; may be called twice."""
        self._closed = True
        await asyncio.to_thread(self._close)

    def _close(self) -> None:
        self._readers.shutdown()
        self.watcher.close()
        while self._connections:
            close(self._connections.pop(), self._identity)
        # The last connection that closes copies the log into the file, and only the writer's may write.
        self.writer.close()


def size_of(records: Sequence[OutRecord]) -> int:
    """Return about how many bytes ``records`` have."""
    return sum(len(record.value or b"") for record in records)
