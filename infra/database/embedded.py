"""Runs an embedded PostgreSQL server, for a laptop, a ground station, and tests."""

from __future__ import annotations

import asyncio
import fcntl
import os
import signal
import subprocess
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Self

from infra.database.cluster import PostgresCluster, Postmaster, dsn_at, is_alive
from infra.errors import DatabaseUnavailableError

_START_TIMEOUT_S = 60.0
_STOP_TIMEOUT_S = 20.0
_POLL_S = 0.02
_SPAWN_PAUSE_S = 0.3
_SPAWN_ATTEMPTS = 10


class EmbeddedPostgres:
    """Runs the server in ``data_dir``/postgres, which all processes of this machine share.

    The first to start it owns it and alone stops it; the others attach. Ownership is a lock on a file, so it ends with
    the owner's process: the next process that calls :meth:`start` adopts the running server, or starts it again.
    """

    def __init__(self, data_dir: Path) -> None:
        """Raise SettingsError when the server's programs are not installed, or the files are another user's."""
        self._cluster = PostgresCluster(data_dir.absolute() / "postgres")
        self._lock_path = self._cluster.home / "owner.lock"
        self._lock: int | None = None
        # Calls run in threads; two of one process must not both start a server.
        self._busy = threading.Lock()
        self._process: subprocess.Popen[bytes] | None = None
        self._socket_dir: Path | None = None

    @property
    def is_owner(self) -> bool:
        """Whether this object stops the server."""
        return self._lock is not None

    @property
    def dsn(self) -> str:
        """The url, which stays the same after a restart. Raises DatabaseUnavailableError before the first start."""
        if self._socket_dir is None:
            raise DatabaseUnavailableError("the embedded database has not been started yet; call start() first")
        return dsn_at(self._socket_dir)

    async def start(self) -> str:
        """Start the server unless it runs, and return the DSN when it accepts connections; repeating it is cheap.

        Raises DatabaseUnavailableError, with the end of the server's log, when it does not start.
        """
        await self._run_alone(self._start)
        return self.dsn

    async def stop(self) -> None:
        """Stop the server if this object owns it; connections are closed, and nothing committed is lost."""
        await self._run_alone(self._stop)

    async def kill(self) -> None:
        """Kill the server (SIGKILL) as in a crash; this object still owns it, and :meth:`start` recovers it."""
        await self._run_alone(self._kill)

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self.stop()

    async def _run_alone(self, work: Callable[[], None]) -> None:
        def locked() -> None:
            with self._busy:
                work()

        await asyncio.to_thread(locked)

    def _start(self) -> None:
        deadline = time.monotonic() + _START_TIMEOUT_S
        while time.monotonic() < deadline:
            found = self._cluster.postmaster()
            if self._take_ownership():
                # Read again under the lock: the former owner may have stopped the server.
                found = self._cluster.postmaster() or self._spawn_and_wait(deadline)
            if found is not None and found.ready:
                self._socket_dir = found.socket_dir
                return
            time.sleep(_POLL_S)
        raise self._start_error(f"within {_START_TIMEOUT_S:.0f} s")

    def _spawn_and_wait(self, deadline: float) -> Postmaster | None:
        self._cluster.ensure_created()
        for _ in range(_SPAWN_ATTEMPTS):
            self._process = self._cluster.spawn()
            while time.monotonic() < deadline and self._process.poll() is None:
                found = self._cluster.postmaster()
                if found is not None and found.ready:
                    return found
                time.sleep(_POLL_S)
            # After a crash the former server's children keep its memory for a moment; a new server refuses to start.
            time.sleep(_SPAWN_PAUSE_S)
        raise self._start_error(f"in {_SPAWN_ATTEMPTS} attempts")

    def _stop(self) -> None:
        if self._lock is None:
            return
        if not self._end(signal.SIGINT, _STOP_TIMEOUT_S):  # fast shutdown: cut connections, then checkpoint
            self._end(signal.SIGQUIT, _STOP_TIMEOUT_S)  # immediate: recovery follows at the next start
        if self._socket_dir is not None:
            with suppress(OSError):  # not empty after an immediate end; the next start uses it again
                self._socket_dir.rmdir()
        os.close(self._lock)
        self._lock = None

    def _kill(self) -> None:
        if self._lock is not None:
            self._end(signal.SIGKILL, _STOP_TIMEOUT_S)

    def _end(self, how: signal.Signals, timeout_s: float) -> bool:
        """Send ``how`` to the server and return whether it ended within ``timeout_s``."""
        found = self._cluster.postmaster()
        pid = found.pid if found is not None else self._process.pid if self._process is not None else None
        if pid is None:
            return True
        with suppress(ProcessLookupError):
            os.kill(pid, how)
        deadline = time.monotonic() + timeout_s
        while is_alive(pid):
            if time.monotonic() > deadline:
                return False
            time.sleep(_POLL_S)
        if self._process is not None and self._process.pid == pid:
            # Only the parent can read the exit status of a child, which stays in the process table until then.
            self._process.wait()
        self._process = None
        return True

    def _take_ownership(self) -> bool:
        """Take the lock if it is free; return whether this object has it. It becomes free when its holder ends."""
        if self._lock is None:
            descriptor = os.open(self._lock_path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                os.close(descriptor)
                return False
            self._lock = descriptor
        return True

    def _start_error(self, when: str) -> DatabaseUnavailableError:
        return DatabaseUnavailableError(
            f"the embedded database in {self._cluster.home} did not start {when}; its log "
            f"{self._cluster.log_path} ends: {self._cluster.log_tail()}"
        )
