"""Follows the topic ``detections`` from its end and hands every event to all clients of this process.

It reads without a consumer group: each SSE process sees everything, nothing is committed, and a process may come and go
without anybody noticing. On start it reads the newest events first, so that clients of a process that was
restarted find what they missed in the ring instead of all asking the broker at once.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from dataclasses import dataclass

from infra.broker.port import Broker, Reader, TopicPartition
from infra.errors import TopicMismatchError, TransientError
from infra.failure import Backoff
from infra.health import HealthPart
from infra.settings import RetrySettings, SseSettings
from infra.telemetry import metrics
from schemas.topics import DETECTIONS
from sinks.sse.history import read_entry, settle
from sinks.sse.positions import Position, advanced, encode_position
from sinks.sse.ring import Entry, Ring
from sinks.sse.session import STREAM, Session
from sinks.sse.wire import gap_bytes

_log = logging.getLogger(__name__)

_MAX_READ_RECORDS = 128
_READ_TIMEOUT_S = 1.0
_HISTORY_READERS = 8
_CLOSE_TIMEOUT_S = 5.0
# A client that takes nothing for this many heartbeats is gone, though its connection has not noticed yet.
_STALLED_HEARTBEATS = 3


@dataclass(eq=False, slots=True)
class Client:
    """One connected client: its session, since when a write has been waiting (monotonic), and how to cut it off."""

    session: Session
    writing_since: float | None = None
    writer: asyncio.Task[None] | None = None

    def cut_off(self) -> None:
        """End its stream in the middle of a write."""
        if self.writer is not None:
            self.writer.cancel()


class DetectionHub:
    """The component that feeds all sessions. ``ring`` and ``partitions`` are valid once ``started``."""

    def __init__(self, broker: Broker, settings: SseSettings, retry: RetrySettings | None = None) -> None:
        self.name = "sse"
        self.settings = settings
        self.closing = False
        self.started = False
        self.ring = Ring((), settings.replay_events)
        self._broker = broker
        self._retry = retry or RetrySettings()
        self._position: Position = ()
        self._targets: Position = ()
        self._pending: list[Entry] = []
        self._unfilled: set[int] = set()
        # A fraction of a client's queue per flush: a burst on the topic never makes a client that reads look slow.
        self._max_pending = max(1, settings.client_queue_events // 4)
        self._max_read = min(_MAX_READ_RECORDS, max(1, settings.client_queue_events // 8))
        self._room = asyncio.Event()
        self._room.set()
        self._news = asyncio.Event()
        self._clients: set[Client] = set()
        self._nobody = asyncio.Event()
        self._nobody.set()
        self._history = asyncio.Semaphore(_HISTORY_READERS)

    @property
    def partitions(self) -> int:
        """How many partitions the topic has; 0 before the broker was reached for the first time."""
        return len(self._position)

    def backoff(self) -> Backoff:
        """Delays between tries to read from the broker."""
        return Backoff(self._retry)

    @property
    def full(self) -> bool:
        """Whether there are as many clients as the settings allow."""
        return len(self._clients) >= self.settings.max_clients

    async def run(self, stop: asyncio.Event, health: HealthPart) -> None:
        """Follow the topic until ``stop``; then send what is pending and end all streams."""
        tasks = [
            asyncio.create_task(self._follow(health), name="sse-follow"),
            asyncio.create_task(self._flush(), name="sse-flush"),
            asyncio.create_task(self._heartbeat(), name="sse-heartbeat"),
        ]
        stopped = asyncio.create_task(stop.wait())
        try:
            done, _ = await asyncio.wait({stopped, *tasks}, return_when=asyncio.FIRST_COMPLETED)
            for task in done - {stopped}:
                task.result()
        finally:
            for task in (stopped, *tasks):
                task.cancel()
            await asyncio.gather(stopped, *tasks, return_exceptions=True)
            await self.close()

    async def close(self) -> None:
        """End all streams; returns when they are ended, or were cut off after some seconds."""
        self._close_batch()
        self.closing = True
        self._wake()
        try:
            async with asyncio.timeout(_CLOSE_TIMEOUT_S):
                await self._nobody.wait()
        except TimeoutError:
            _log.warning("%d clients did not take the end of their stream in time", len(self._clients))
            for client in self._clients:
                client.cut_off()

    @asynccontextmanager
    async def history_reader(self) -> AsyncIterator[Reader]:
        """A reader for one resuming client; a few at a time, so that a crowd coming back does not swamp the broker."""
        async with self._history:
            reader = await self._broker.reader()
            try:
                yield reader
            finally:
                await reader.close()

    @contextmanager
    def client(self, session: Session) -> Iterator[Client]:
        """Count the session and wake it as long as the context lasts."""
        client = Client(session)
        self._clients.add(client)
        self._nobody.clear()
        metrics.SSE_CLIENTS.labels(STREAM).inc()
        try:
            yield client
        finally:
            self._clients.discard(client)
            metrics.SSE_CLIENTS.labels(STREAM).dec()
            if not self._clients:
                self._nobody.set()

    async def _follow(self, health: HealthPart) -> None:
        """Read all partitions; start over with growing pauses whenever the broker is away."""
        backoff = self.backoff()
        while True:
            connected_at = time.monotonic()
            try:
                async with AsyncExitStack() as stack:
                    await self._follow_connected(stack, health)
            except TransientError as error:
                if time.monotonic() - connected_at > self._retry.max_delay_s:
                    backoff.reset()
                delay_s = backoff.next_delay_s()
                health.alive()
                health.not_ready(f"{error.code}: streams stay open and go on when the broker is back")
                metrics.RETRIES.labels(self.name, error.code).inc()
                _log.warning("following detections was interrupted, trying again in %.1f s: %s", delay_s, error)
                await asyncio.sleep(delay_s)

    async def _follow_connected(self, stack: AsyncExitStack, health: HealthPart) -> None:
        reader = await self._open_reader(stack)
        self._begin(await reader.bounds(DETECTIONS))
        readers = [reader, *[await self._open_reader(stack) for _ in range(1, self.partitions)]]
        health.ready()
        followers = [
            asyncio.create_task(self._follow_partition(reader, partition, health), name=f"sse-follow-{partition}")
            for partition, reader in enumerate(readers)
        ]
        try:
            done, _ = await asyncio.wait(followers, return_when=asyncio.FIRST_EXCEPTION)
            for follower in done:
                follower.result()
        finally:
            for follower in followers:
                follower.cancel()
            await asyncio.gather(*followers, return_exceptions=True)

    async def _open_reader(self, stack: AsyncExitStack) -> Reader:
        reader = await self._broker.reader()
        stack.push_async_callback(reader.close)
        return reader

    def _begin(self, bounds: Mapping[int, tuple[int, int]]) -> None:
        """The first time: start some way before the end, to fill the ring. Later: go on, if the topic still has it."""
        if not self._position:
            share = max(1, self.settings.replay_events // max(1, len(bounds)))
            self._targets = tuple(bounds[partition][1] for partition in range(len(bounds)))
            self._position = tuple(
                max(bounds[partition][0], end - share) for partition, end in enumerate(self._targets)
            )
            self._unfilled = set(range(len(bounds)))
            self.ring = Ring(self._position, self.settings.replay_events)
            return
        if len(bounds) != self.partitions:
            raise TopicMismatchError(
                f"topic {DETECTIONS} had {self.partitions} partitions and now has {len(bounds)}; restart this process, "
                "its clients go on where they are"
            )
        settled, losses = settle(self._position, bounds)
        if losses:
            self._close_batch()
            self._position = settled
            self.ring.restart(settled)
            _log.error("the topic no longer holds what was not yet sent to clients: %s", losses)
            self._add_batch((), gap_bytes(losses, encode_position(settled)))

    async def _follow_partition(self, reader: Reader, partition: int, health: HealthPart) -> None:
        source = TopicPartition(DETECTIONS, partition)
        while True:
            health.alive()
            self._filled(partition, silent=False)
            records = await reader.read(
                source, self._position[partition], max_records=self._max_read, timeout_s=_READ_TIMEOUT_S
            )
            # Others may have used up the room while this one was woken.
            while not self._room.is_set():
                await self._room.wait()
            for record in records:
                entry = read_entry(record)
                if entry is not None:
                    self._pending.append(entry)
                self._position = advanced(self._position, partition, record.offset)
            if records:
                self._news.set()
            else:
                self._filled(partition, silent=True)
            if len(self._pending) >= self._max_pending:
                self._room.clear()

    def _filled(self, partition: int, *, silent: bool) -> None:
        """Note that ``partition`` is read up to where its end was at the start; with the last one clients may join.

        ``silent``: nothing came. What ends in transaction markers is never read up to its end.
        """
        if partition not in self._unfilled or not (silent or self._position[partition] >= self._targets[partition]):
            return
        self._unfilled.discard(partition)
        if not self._unfilled:
            self._close_batch()
            self.started = True
            self._wake()

    async def _flush(self) -> None:
        """Hand out what has arrived: the first event at once, further ones together, once per interval."""
        while True:
            await self._news.wait()
            self._news.clear()
            self._close_batch()
            await asyncio.sleep(self.settings.flush_interval_s)

    def _close_batch(self) -> None:
        if self._position != self.ring.end:
            self._add_batch(tuple(self._pending))
            self._pending.clear()
        self._room.set()

    def _add_batch(self, entries: tuple[Entry, ...], notice: bytes = b"") -> None:
        self.ring.add(entries, self._position, notice)
        self._wake()

    def _wake(self) -> None:
        for client in self._clients:
            client.session.wake()

    async def _heartbeat(self) -> None:
        """Let silent clients hear something, and let go of those that take nothing any more."""
        while True:
            await asyncio.sleep(self.settings.heartbeat_s)
            stalled = time.monotonic() - _STALLED_HEARTBEATS * self.settings.heartbeat_s
            for client in self._clients:
                client.session.wake(heartbeat=True)
                if client.writing_since is not None and client.writing_since < stalled:
                    metrics.SSE_DROPPED.labels(STREAM).inc()
                    client.cut_off()
