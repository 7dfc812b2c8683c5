"""Writes the broker file in one thread per process: all waiting callers share one transaction and one fsync."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import sqlite3
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Generic, Protocol, TypeVar

from infra.broker.embedded.cleaning.retention import Retention
from infra.broker.embedded.file.connection import begin_write, close, commit, is_busy, open_writer, unavailable
from infra.broker.embedded.file.file_identity import FileIdentity
from infra.broker.embedded.file.log import Transaction
from infra.errors import BrokerUnavailableError
from schemas.topics import TopicSpec

T = TypeVar("T")

_BATCH_JOBS = 1_000
_BATCH_BYTES = 8 * 1024 * 1024
_CLEANING_INTERVAL_S = 30.0
_CLEANING_PAUSE_S = 0.2
"""Between two rounds of cleaning while there is more to do."""
_LOOK_INTERVAL_S = 0.1
"""Between two checks whether a file that was moved away is back."""
_JOIN_WAIT_S = 15.0

logger = logging.getLogger(__name__)


class _AnyJob(Protocol):
    @property
    def size(self) -> int: ...

    @property
    def future(self) -> asyncio.Future[Any]: ...

    def perform(self, transaction: Transaction) -> None: ...

    def finish(self, failure: BrokerUnavailableError | None) -> None: ...


@dataclass(slots=True)
class _Job(Generic[T]):
    """Holds work that waits for a transaction. An error that it raises does not affect the other jobs."""

    work: Callable[[Transaction], T]
    size: int
    future: asyncio.Future[T]
    _result: list[T] = field(default_factory=list)
    _error: Exception | None = None

    def perform(self, transaction: Transaction) -> None:
        try:
            self._result.append(self.work(transaction))
        except sqlite3.Error:
            raise
        except Exception as error:  # noqa: BLE001 (it is raised to the job's caller, and must not end the thread)
            self._error = error

    def finish(self, failure: BrokerUnavailableError | None) -> None:
        """Give the caller the result or the error; runs on the caller's event loop."""
        if self.future.done():
            return
        error = failure or self._error
        if error is not None:
            self.future.set_exception(error)
        else:
            self.future.set_result(self._result[0])


def _finish(jobs: list[_AnyJob], failure: BrokerUnavailableError | None) -> None:
    """Give the callers of ``jobs`` their results or ``failure``."""
    for loop in {job.future.get_loop() for job in jobs}:
        mine = [job for job in jobs if job.future.get_loop() is loop]
        # One call for all: waking a loop costs more than finishing a hundred jobs. A closed loop has no callers.
        with contextlib.suppress(RuntimeError):
            loop.call_soon_threadsafe(_finish_all, mine, failure)


def _finish_all(jobs: list[_AnyJob], failure: BrokerUnavailableError | None) -> None:
    for job in jobs:
        job.finish(failure)


class TransactionWriter:
    """Runs work in write transactions. Work raises its errors before it writes anything, or not at all.

    When the file is moved away while a transaction is being committed, the callers wait until it is back, because
    neither success nor failure is known before.
    """

    def __init__(
        self, identity: FileIdentity, declared: Mapping[str, TopicSpec], committed: Callable[[], None]
    ) -> None:
        """Start the thread; ``declared`` are this process' topics, and ``committed`` is called after each commit."""
        self._path = identity.path
        self._identity = identity
        self._declared = declared
        self._committed = committed
        self._jobs: deque[_AnyJob] = deque()
        self._undecided: list[_AnyJob] = []
        self._wake = threading.Condition()
        self._closed = False
        self._connection: sqlite3.Connection | None = None
        self._rescued = False
        self._begun = False
        self._retention = Retention()
        self._clean_at = time.monotonic() + _CLEANING_INTERVAL_S
        self._thread = threading.Thread(target=self._serve, name="embedded-broker-writer", daemon=True)
        self._thread.start()

    async def run(self, work: Callable[[Transaction], T], size: int = 0, *, urgent: bool = False) -> T:
        """Run ``work`` in a transaction and return its result when it is durable.

        ``size`` in bytes keeps transactions small. ``urgent`` work goes into the next transaction, before waiting work.
        Raises what ``work`` raises, and BrokerUnavailableError when nothing was written. When the caller is cancelled
        before the transaction, ``work`` never runs; when it is cancelled later, ``work`` is done completely or not.
        """
        future: asyncio.Future[T] = asyncio.get_running_loop().create_future()
        job = _Job(work, size, future)
        with self._wake:
            if self._closed:
                raise BrokerUnavailableError(f"embedded broker {self._path}: closed by this process")
            if urgent:
                self._jobs.appendleft(job)
            else:
                self._jobs.append(job)
            self._wake.notify()
        return await future

    def close(self) -> None:
        """Do the waiting work, then end the thread; may be called twice."""
        with self._wake:
            self._closed = True
            self._wake.notify()
        self._thread.join(_JOIN_WAIT_S)

    def _serve(self) -> None:
        while (jobs := self._take_jobs()) is not None:
            if jobs:
                self._transact(jobs)
            self._finish_undecided()
            if time.monotonic() >= self._clean_at:
                self._clean()
        self._finish_undecided(last=True)
        if self._connection is not None:
            close(self._connection, self._identity)

    def _take_jobs(self) -> list[_AnyJob] | None:
        """Wait for the jobs of the next transaction; empty when something else is due, None at the end."""
        due = self._clean_at
        if self._undecided:
            due = min(due, time.monotonic() + _LOOK_INTERVAL_S)
        with self._wake:
            while not self._jobs:
                if self._closed:
                    return None
                pause = due - time.monotonic()
                if pause <= 0:
                    return []
                self._wake.wait(pause)
            jobs: list[_AnyJob] = []
            size = 0
            while self._jobs and len(jobs) < _BATCH_JOBS and size < _BATCH_BYTES:
                job = self._jobs.popleft()
                if not job.future.cancelled():
                    jobs.append(job)
                    size += job.size
            return jobs

    def _transact(self, jobs: list[_AnyJob]) -> None:
        def perform(transaction: Transaction) -> None:
            for job in jobs:
                job.perform(transaction)

        failure = self._try_transaction(perform)
        if failure is not None:
            _finish(jobs, failure)
            return
        self._undecided += jobs
        if not self._begun:
            # The first round follows at once, so that clock changes are noticed from now on.
            self._begun, self._clean_at = True, time.monotonic()

    def _finish_undecided(self, *, last: bool = False) -> None:
        """Finish the jobs whose transaction was committed, if the file is still in its place."""
        if not self._undecided:
            return
        failure = None
        try:
            self._identity.check()
        except BrokerUnavailableError as error:
            if not last:
                return
            failure = BrokerUnavailableError(f"{error} (it is not known whether this write is in the file)")
        # Waiting readers are woken before the caller of the commit.
        self._committed()
        jobs, self._undecided = self._undecided, []
        _finish(jobs, failure)

    def _try_transaction(self, work: Callable[[Transaction], None]) -> BrokerUnavailableError | None:
        """Run ``work`` in one transaction; return the error when nothing of it was written."""
        try:
            connection = self._open()
            begin_write(connection)
            transaction = Transaction(connection, self._declared)
            work(transaction)
            transaction.flush()
            self._identity.check()
            commit(connection)
        except sqlite3.Error as error:
            self._drop_connection(error)
            return unavailable(self._path, error)
        except BrokerUnavailableError as error:
            self._roll_back()
            return error
        except Exception as error:
            # A defect in this code. It must not end the thread, because all callers would wait forever.
            logger.exception("the embedded broker %s could not be written", self._path)
            self._roll_back()
            return BrokerUnavailableError(f"embedded broker {self._path}: unexpected error {error!r}; see the log")
        return None

    def _open(self) -> sqlite3.Connection:
        if self._connection is None:
            self._identity.check()
            connection = open_writer(self._path, create=not self._identity.is_known)
            try:
                self._identity.record()
            except BrokerUnavailableError:
                connection.close()
                raise
            self._connection = connection
        return self._connection

    def _drop_connection(self, error: sqlite3.Error) -> None:
        """Undo the transaction and close the connection: a new one, next time, reads the state of the file again."""
        if self._connection is not None and (self._connection.in_transaction or not is_busy(error)):
            close(self._connection, self._identity)
            self._connection = None
            self._identity.drop_companions()

    def _roll_back(self) -> None:
        """Undo the transaction, and keep the connection: the file may return to its place."""
        if self._connection is None:
            return
        with contextlib.suppress(sqlite3.Error):
            if self._connection.in_transaction:
                self._connection.execute("ROLLBACK")
            if self._identity.is_log_lost() and not self._rescued:
                self._rescued = True
                _, found, saved = self._connection.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchone()
                logger.error(
                    "%s: its write-ahead log was removed while in use; %d of the %d pages in it are now in the file",
                    self._path,
                    saved,
                    found,
                )

    def _clean(self) -> None:
        more = False

        def work(transaction: Transaction) -> None:
            nonlocal more
            more = self._retention.work(transaction.connection)

        failure = self._try_transaction(work)
        if failure is None:
            self._retention.report()
        else:
            # The same error, such as a full disk, would be met again at once.
            more = False
            logger.warning("retention and compaction failed and are tried in the next round: %s", failure)
        self._clean_at = time.monotonic() + (_CLEANING_PAUSE_S if more else _CLEANING_INTERVAL_S)
