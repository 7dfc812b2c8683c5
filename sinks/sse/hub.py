"""Follows the topic ``detections`` from its end and gives every event to all clients of this process.

It reads without a consumer group: each SSE process reads all events, commits nothing, and may start or stop without an
effect on others. At its start it reads the newest events first, so that the ring has the events that clients missed
during a restart, and not all of them make the process read from the broker.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass

from infra.broker.port import Broker, Reader
from infra.failure.backoff import Backoff
from infra.failure.settings import RetrySettings
from infra.process.health import HealthPart
from sinks.metrics import SSE_CLIENTS, SSE_DROPPED, SSE_EVENTS
from sinks.settings import SseSettings
from sinks.sse.intake import StreamIntake
from sinks.sse.pictures.addresses import PictureAddresses
from sinks.sse.ring import Ring
from sinks.sse.session import STREAM, Session
from sinks.sse.topic_follower import TopicFollower

logger = logging.getLogger(__name__)

_HISTORY_READERS = 8
_CLOSE_TIMEOUT_S = 5.0
# A client that reads nothing for this many heartbeats counts as disconnected.
_STALLED_HEARTBEATS = 3


@dataclass(eq=False, slots=True)
class Client:
    """Holds one connected client."""

    session: Session
    address: str = ""
    writing_since: float | None = None
    """Since when a write has been waiting (monotonic)"""
    writer: asyncio.Task[None] | None = None
    is_valid: Callable[[], bool] = lambda: True
    """Whether the client may still follow what it follows"""

    def cut_off(self) -> None:
        """End its stream, also in the middle of a write."""
        if self.writer is not None:
            self.writer.cancel()


class DetectionHub:
    """Gives all sessions new events; it is a component. ``ring`` and ``partitions`` are valid once ``started``.

    ``grown_from`` is how many partitions the topic had before it got more (see :class:`TopicSpec`).
    One address may have ``address_share`` of the clients that the settings allow. ``pictures`` makes the addresses of
    images in events.
    """

    def __init__(
        self,
        broker: Broker,
        settings: SseSettings,
        retry: RetrySettings | None = None,
        *,
        grown_from: int | None = None,
        address_share: float = 1.0,
        pictures: PictureAddresses | None = None,
    ) -> None:
        self.name = "sse"
        self.settings = settings
        self.closing = False
        self.grown_from = grown_from
        self._broker = broker
        self._retry = retry or RetrySettings()
        self.pictures = pictures or PictureAddresses(lifetime_s=settings.image_lifetime_s)
        self._intake = StreamIntake(settings, self._wake, grown_from, self.pictures)
        self._clients: set[Client] = set()
        self._of_address: Counter[str] = Counter()
        self._most_of_address = max(1, int(settings.max_clients * address_share))
        self._no_clients = asyncio.Event()
        self._no_clients.set()
        self._history = asyncio.Semaphore(_HISTORY_READERS)

    @property
    def partitions(self) -> int:
        """How many partitions the topic has; 0 before the broker was reached for the first time."""
        return len(self._intake.position)

    @property
    def started(self) -> bool:
        """Whether the newest events were read, so that clients can start."""
        return self._intake.started

    @property
    def ring(self) -> Ring:
        """The newest events of the topic."""
        return self._intake.ring

    def backoff(self) -> Backoff:
        """Return new delays for reads from the broker."""
        return Backoff(self._retry)

    @property
    def full(self) -> bool:
        """Whether there are as many clients as the settings allow."""
        return len(self._clients) >= self.settings.max_clients

    def full_for(self, address: str) -> bool:
        """Whether ``address`` has as many clients as one may have."""
        return self._of_address[address] >= self._most_of_address

    async def run(self, stop: asyncio.Event, health: HealthPart) -> None:
        """Follow the topic until ``stop``, then send the pending events and end all streams."""
        follower = TopicFollower(self._broker, self._intake, health, self.settings, self._retry)
        tasks = [
            asyncio.create_task(follower.run(), name="sse-follow"),
            asyncio.create_task(self._intake.flush(), name="sse-flush"),
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
        """End all streams, and cut off those that have not ended after some seconds."""
        self._intake.close_batch()
        self.closing = True
        self._wake()
        try:
            async with asyncio.timeout(_CLOSE_TIMEOUT_S):
                await self._no_clients.wait()
        except TimeoutError:
            count = len(self._clients)
            logger.warning("%d clients did not read the end of their stream in time and are cut off", count)
            for client in self._clients:
                client.cut_off()

    @asynccontextmanager
    async def history_reader(self) -> AsyncIterator[Reader]:
        """Open a reader for one resuming client; a few at a time, so that many do not overload the broker."""
        async with self._history:
            reader = await self._broker.reader()
            try:
                yield reader
            finally:
                await reader.close()

    @contextmanager
    def client(
        self, session: Session, address: str = "", is_valid: Callable[[], bool] = lambda: True
    ) -> Iterator[Client]:
        """Count the session and wake it for new events during the block, and end it when it is not valid any more."""
        client = Client(session, address, is_valid=is_valid)
        self._clients.add(client)
        self._of_address[address] += 1
        self._no_clients.clear()
        SSE_CLIENTS.labels(STREAM).inc()
        try:
            yield client
        finally:
            self._clients.discard(client)
            self._of_address[address] -= 1
            if self._of_address[address] == 0:
                del self._of_address[address]
            SSE_CLIENTS.labels(STREAM).dec()
            if not self._clients:
                self._no_clients.set()

    def _wake(self) -> None:
        """Send the newest batch to all clients that wait for it, and wake the tasks of the others."""
        sent = 0
        for client in self._clients:
            count = client.session.send_newest()
            if count is None:
                client.session.wake()
            else:
                sent += count
        SSE_EVENTS.labels(STREAM).inc(sent)

    async def _heartbeat(self) -> None:
        """Make sessions send a heartbeat, and cut off clients that no longer read."""
        while True:
            await asyncio.sleep(self.settings.heartbeat_s)
            stalled = time.monotonic() - _STALLED_HEARTBEATS * self.settings.heartbeat_s
            for client in self._clients:
                if not client.is_valid():
                    client.session.end("your key or its devices have changed, connect again")
                client.session.wake(heartbeat=True)
                if client.writing_since is not None and client.writing_since < stalled:
                    SSE_DROPPED.labels(STREAM).inc()
                    # So that it is not counted again when its stream ends.
                    client.writing_since = None
                    client.cut_off()
