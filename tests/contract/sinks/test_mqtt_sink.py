"""The MQTT sink keeps the sink contract on a real broker; a subscriber drops repeated ids, as the page tells it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Collection
from contextlib import suppress
from pathlib import Path
from uuid import UUID

import pytest

from schemas.event_base import Event
from sinks.mqtt.settings import MqttSettings
from sinks.mqtt.sink import MqttSink
from standgale.testing.factories import detections_made
from standgale.testing.sink import SinkContract, SinkHarness
from tests.servers.mosquitto import Mosquitto, Received, require_mosquitto, subscribed

pytestmark = pytest.mark.integration

_QUIET_S = 0.15


class MqttHarness(SinkHarness):
    def __init__(self, server: Mosquitto, received: Received) -> None:
        self.server = server
        self.received = received
        self._made = 0

    def make_sink(self) -> MqttSink:
        self._made += 1
        # Another process has another name.
        settings = MqttSettings(url=self.server.url, timeout_s=2.0, in_flight=7)
        return MqttSink(settings, instance_id=str(self._made))

    async def stored(self) -> Collection[UUID]:
        known = -1
        while known != len(self.received.messages):
            known = len(self.received.messages)
            await asyncio.sleep(_QUIET_S)
        return [UUID(str(body["id"])) for body in self.received.first_of_each("standgale/detections/")]

    def poison(self, number: int) -> Event:
        return detections_made(number, device=f"drone-{number % 3}", metadata={"text": "x" * 100_000})

    async def take_away(self) -> None:
        await asyncio.to_thread(self.server.stop)

    async def bring_back(self) -> None:
        await asyncio.to_thread(self.server.start)


class TestMqttSink(SinkContract):
    @pytest.fixture
    async def harness(self, server_dir: Path) -> AsyncIterator[MqttHarness]:
        require_mosquitto()
        server = Mosquitto(server_dir, ("allow_anonymous true", "max_packet_size 50000")).start()
        with suppress(asyncio.CancelledError):
            async with subscribed(server.port, "standgale/detections/#") as received:
                yield MqttHarness(server, received)
        server.stop()
