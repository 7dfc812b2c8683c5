"""Wakes tasks that wait for records: at once for commits of this process, within milliseconds for those of others."""

from __future__ import annotations

import asyncio
import contextlib
import sqlite3
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from infra.broker.embedded.file.connection import close, open_reader
from infra.broker.embedded.file.file_identity import FileIdentity
from infra.broker.embedded.file.log import load_ends
from infra.errors import BrokerUnavailableError

_LOOK_INTERVAL_S = 0.01
# While records keep coming, a look costs little beside them, and what waits for them is someone's latency.
_BUSY_INTERVAL_S = 0.003
_BUSY_FOR_S = 1.0
_RETRY_S = 0.5
_JOIN_WAIT_S = 5.0


@dataclass(frozen=True, slots=True)
class Ends:
    """Holds the end of every partition, by slot, and the generation of every group."""

    offsets: Mapping[int, int] = field(default_factory=dict)
    generations: Mapping[str, int] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, eq=False)
class _Waiter:
    loop: asyncio.AbstractEventLoop
    event: asyncio.Event


class ChangeWatcher:
    """Reads the file's change counter while a task waits, and sleeps otherwise."""

    def __init__(self, identity: FileIdentity) -> None:
        self._identity = identity
        self._ends = Ends()
        self._failures = 0
        self._waiters: set[_Waiter] = set()
        self._wake = threading.Condition()
        self._closed = False
        self._thread = threading.Thread(target=self._serve, name="embedded-broker-watcher", daemon=True)
        self._thread.start()

    def poke(self) -> None:
        """Read the counter now, because this process has committed."""
        with self._wake:
            self._wake.notify()

    async def wait(self, wanted: Callable[[Ends], bool], timeout_s: float) -> bool:
        """Wait until ``wanted`` is true; return False after ``timeout_s``. Older changes may be noticed late.

        Returns True also when the file cannot be read: the caller then reads it and gets the error.
        """
        failures = self._failures
        waiter = _Waiter(asyncio.get_running_loop(), asyncio.Event())
        with self._wake:
            self._waiters.add(waiter)
            self._wake.notify()
        try:
            async with asyncio.timeout(timeout_s):
                while not wanted(self._ends) and self._failures == failures:
                    await waiter.event.wait()
                    waiter.event.clear()
        except TimeoutError:
            return False
        finally:
            with self._wake:
                self._waiters.discard(waiter)
        return True

    def close(self) -> None:
        """End the thread; may be called twice."""
        with self._wake:
            self._closed = True
            self._wake.notify()
        self._thread.join(_JOIN_WAIT_S)

    def _serve(self) -> None:
        connection: sqlite3.Connection | None = None
        seen: int | None = None
        changed_at = -_BUSY_FOR_S
        pause = _LOOK_INTERVAL_S
        while self._sleep(pause):
            try:
                self._identity.check()
                connection = connection or open_reader(self._identity.path)
                (version,) = connection.execute("PRAGMA data_version").fetchone()
                if version != seen:
                    self._ends = _load(connection)
                    self._wake_all()
                    seen, changed_at = version, time.monotonic()
                is_busy = time.monotonic() - changed_at < _BUSY_FOR_S
                pause = _BUSY_INTERVAL_S if is_busy else _LOOK_INTERVAL_S
            except BrokerUnavailableError:
                self._report_failure()
                pause = _RETRY_S
            except sqlite3.Error:
                self._report_failure()
                if connection is not None:
                    close(connection, self._identity)
                connection, seen, pause = None, None, _RETRY_S
        if connection is not None:
            close(connection, self._identity)

    def _sleep(self, pause: float) -> bool:
        with self._wake:
            if not self._closed:
                self._wake.wait(pause if self._waiters else None)
            return not self._closed

    def _report_failure(self) -> None:
        """Wake all waiting tasks, so that they read the file and get the error."""
        self._failures += 1
        self._wake_all()

    def _wake_all(self) -> None:
        with self._wake:
            for waiter in self._waiters:
                # The loop may have been closed while this task was waiting.
                with contextlib.suppress(RuntimeError):
                    waiter.loop.call_soon_threadsafe(waiter.event.set)


def _load(connection: sqlite3.Connection) -> Ends:
    return Ends(load_ends(connection), dict(connection.execute("SELECT name, generation FROM groups").fetchall()))
