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
from infra.errors import DatabaseUnavailableError, SettingsError
from infra.process.open_files import why_too_few_open_files

_START_TIMEOUT_S = 60.0
_STOP_TIMEOUT_S = 20.0
_POLL_S = 0.02
_SPAWN_PAUSE_S = 0.3
_SPAWN_ATTEMPTS = 10


# Keepers of servers that other processes still use; Python must not forget the number of a child.
_left_running: list[subprocess.Popen[bytes]] = []


class EmbeddedPostgres:
    """Runs the server in ``data_dir``/postgres, which all processes of this machine share.

    The first to use it starts it, and the last to leave stops it. Each user holds a shared lock on a file, which ends
    with its process: a process that is killed leaves, too, and if it was the last, the server's keeper stops the server
    (:mod:`infra.database.keeper`).
    """

    def __init__(self, data_dir: Path) -> None:
        """Raise SettingsError when the server's programs are not installed, or the files are another user's."""
        self._cluster = PostgresCluster(data_dir.absolute() / "postgres")
        self._users_path = self._cluster.home / "users.lock"
        self._start_path = self._cluster.home / "start.lock"
        self._users: int | None = None
        # Calls run in threads; two of one process must not both start a server.
        self._busy = threading.Lock()
        self._keeper: subprocess.Popen[bytes] | None = None
        self._socket_dir: Path | None = None

    @property
    def dsn(self) -> str:
        """The url, which stays the same after a restart. Raises DatabaseUnavailableError before the first start."""
        if self._socket_dir is None:
            raise DatabaseUnavailableError("the embedded database has not been started yet; call start() first")
        return dsn_at(self._socket_dir)

    async def start(self) -> str:
        """Start the server unless it runs, and return the DSN when it accepts connections; repeating it is cheap.

        Raises DatabaseUnavailableError, with the end of the server's log, when it does not start, and SettingsError
        when this process may open too few files.
        """
        self._cluster.abandoned.clear()
        await self._run_alone(self._start)
        return self.dsn

    async def stop(self) -> None:
        """Leave the server, and stop it if no other process uses it; nothing committed is lost.

        A start in progress is ended.
        """
        self._cluster.abandoned.set()
        await self._run_alone(self._stop)

    async def kill(self) -> None:
        """Kill the server (SIGKILL) as in a crash; :meth:`start` recovers it."""
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
        while time.monotonic() < deadline and not self._cluster.abandoned.is_set():
            if self._join():
                found = self._cluster.postmaster() or self._start_alone(deadline)
                if found is not None and found.ready:
                    self._socket_dir = found.socket_dir
                    return
            time.sleep(_POLL_S)
        if self._cluster.abandoned.is_set():
            raise DatabaseUnavailableError(f"the start of the embedded database in {self._cluster.home} was ended")
        raise self._start_error(f"within {_START_TIMEOUT_S:.0f} s")

    def _join(self) -> bool:
        """Become a user of the server; return False while it is being stopped."""
        if self._users is None:
            self._users = _lock(self._users_path, fcntl.LOCK_SH)
        return self._users is not None

    def _start_alone(self, deadline: float) -> Postmaster | None:
        """Start the server, unless another process does so; return it when it is ready."""
        lock = _lock(self._start_path, fcntl.LOCK_EX)
        if lock is None:
            return None
        try:
            # Look again under the lock: another process may have started it meanwhile.
            return self._cluster.postmaster() or self._spawn_and_wait(deadline, lock)
        finally:
            os.close(lock)

    def _spawn_and_wait(self, deadline: float, lock: int) -> Postmaster | None:
        too_few = why_too_few_open_files()
        if too_few is not None:
            raise SettingsError(f"the embedded database is not started: {too_few}")
        self._cluster.ensure_created(lock)
        for _ in range(_SPAWN_ATTEMPTS):
            # One that a process started before it was killed: it is used if it gets ready.
            found = self._wait_until_ready(lambda: self._cluster.server_pid() is not None, deadline)
            if found is None and not self._cluster.abandoned.is_set():
                users = os.open(self._users_path, os.O_RDWR)
                try:
                    self._keeper = self._cluster.spawn(users)
                finally:
                    os.close(users)
                found = self._wait_until_ready(self._keeper_runs, deadline)
            if found is not None or self._cluster.abandoned.is_set():
                return found
            # After a crash the former server's children keep its memory for a moment; a new server refuses to start.
            time.sleep(_SPAWN_PAUSE_S)
        raise self._start_error(f"in {_SPAWN_ATTEMPTS} attempts")

    def _wait_until_ready(self, runs: Callable[[], bool], deadline: float) -> Postmaster | None:
        """Return the server when it is ready; None when it no longer ``runs``, is too late, or is abandoned."""
        while runs() and time.monotonic() < deadline:
            found = self._cluster.postmaster()
            if found is not None and found.ready:
                return found
            if self._cluster.abandoned.wait(_POLL_S):
                break
        return None

    def _keeper_runs(self) -> bool:
        return self._keeper is not None and self._keeper.poll() is None

    def _stop(self) -> None:
        if self._users is None:
            return
        if self._is_last_user():
            if not self._end(signal.SIGINT, _STOP_TIMEOUT_S):  # fast shutdown: cut connections, then checkpoint
                self._end(signal.SIGQUIT, _STOP_TIMEOUT_S)  # immediate: recovery follows at the next start
            if self._socket_dir is not None:
                with suppress(OSError):  # not empty after an immediate end; the next start uses it again
                    self._socket_dir.rmdir()
        elif self._keeper is not None and self._keeper.poll() is None:
            _left_running.append(self._keeper)
        self._keeper = None
        os.close(self._users)
        self._users = None

    def _is_last_user(self) -> bool:
        """Whether no other process uses the server; then no process can begin to, until this one closes the file."""
        assert self._users is not None
        with suppress(BlockingIOError):
            fcntl.flock(self._users, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return True
        # Others use it, or the keeper was quicker to see that this process leaves, and stops the server now.
        deadline = time.monotonic() + 2 * _STOP_TIMEOUT_S
        while time.monotonic() < deadline:
            with suppress(BlockingIOError):
                fcntl.flock(self._users, fcntl.LOCK_SH | fcntl.LOCK_NB)
                break
            time.sleep(_POLL_S)
        return False

    def _kill(self) -> None:
        if self._users is not None:
            self._end(signal.SIGKILL, _STOP_TIMEOUT_S)

    def _end(self, how: signal.Signals, timeout_s: float) -> bool:
        """Send ``how`` to the server and return whether it ended within ``timeout_s``."""
        pid = self._cluster.server_pid()
        if pid is not None:
            with suppress(ProcessLookupError):
                os.kill(pid, how)
        elif self._keeper is not None and self._keeper.poll() is None:
            self._keeper.terminate()  # it stops a server that is not ready yet
        deadline = time.monotonic() + timeout_s
        while (pid is not None and is_alive(pid)) or self._keeper_runs():
            if time.monotonic() > deadline:
                return False
            time.sleep(_POLL_S)
        self._keeper = None
        return True

    def _start_error(self, when: str) -> DatabaseUnavailableError:
        return DatabaseUnavailableError(
            f"the embedded database in {self._cluster.home} did not start {when}; its log "
            f"{self._cluster.log_path} ends: {self._cluster.log_tail()}"
        )


def _lock(path: Path, how: int) -> int | None:
    """Open and lock ``path`` and return its number; None if others hold a lock that excludes it."""
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(descriptor, how | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(descriptor)
        return None
    return descriptor
