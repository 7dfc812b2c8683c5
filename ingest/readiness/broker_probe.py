"""Checks that the broker accepts frames: reads the bounds of their topic and publishes a probe record."""

from __future__ import annotations

import os
import socket
from uuid import uuid4

from infra.broker.event_records import event_record
from infra.broker.port import Broker, Publisher, Reader
from ingest.event_source import SOURCE
from ingest.readiness.clock import GatewayClock
from schemas.events import ProbeSent
from schemas.topics import FRAMES_LIVE, PROBES


class BrokerProbe:
    """Opens a separate reader and publisher at the first check, so that a failed probe does not affect frames."""

    def __init__(self, broker: Broker, clock: GatewayClock) -> None:
        self._broker = broker
        self._clock = clock
        self._reader: Reader | None = None
        self._publisher: Publisher | None = None
        self._process = f"{socket.gethostname()}-{os.getpid()}"[-255:]

    async def check(self) -> None:
        """Check that the frames' topic exists and that a record is acknowledged; raises the broker's errors."""
        if self._reader is None:
            self._reader = await self._broker.reader()
        await self._reader.bounds(FRAMES_LIVE)
        if self._publisher is None:
            self._publisher = await self._broker.publisher()
        now = self._clock.now()
        event = ProbeSent(process=self._process, sent_at=now)
        record = event_record(PROBES, event, id=uuid4(), source=SOURCE, subject=None, time=now, key=self._process)
        await self._publisher.publish([record])
        self._clock.set_difference(self._publisher.clock_ahead_s())

    async def close(self) -> None:
        """Close reader and publisher; may be called twice."""
        reader, self._reader = self._reader, None
        publisher, self._publisher = self._publisher, None
        if reader is not None:
            await reader.close()
        if publisher is not None:
            await publisher.close()
