"""Publishes detections events to an MQTT broker: in order per device, and each until the broker has confirmed it."""

from __future__ import annotations

import asyncio
import logging
import ssl
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING
from uuid import UUID

from infra.errors import RefusedError
from infra.failure.error_texts import error_text
from infra.process.health import HealthPart
from infra.secrets import present_secret
from schemas.errors import StandgaleError
from schemas.events import DetectionsMade
from schemas.topics import DETECTIONS
from sinks.mqtt.messages import Message, detections_message
from sinks.mqtt.rivals import Rivals
from sinks.mqtt.settings import MqttSettings

if TYPE_CHECKING:
    from sinks.mqtt.connection import MqttConnection

logger = logging.getLogger(__name__)

_LOOK_S = 5.0
"""How often an idle sink looks whether it is still connected."""
_MOST_TAKEN = 10_000


class MqttSink:
    """Publishes each event to the topic of its device, and keeps the status of this process in the broker.

    An event is published again when its confirmation was lost, with the same id; what was confirmed of a batch that
    failed later is not. Where repeated ids are dropped, a device's events are in order.
    """

    name: str = "mqtt"
    event: type[DetectionsMade] = DetectionsMade
    topics: tuple[str, ...] = (DETECTIONS,)

    def __init__(
        self,
        settings: MqttSettings,
        *,
        tls: ssl.SSLContext | None = None,
        instance_id: str | None = None,
        password_file: Path | None = None,
        health: HealthPart | None = None,
    ) -> None:
        """``health`` is told when another process has the same client id."""
        self.client_id = settings.client_id if instance_id is None else f"{settings.client_id}-{instance_id}"
        self._settings = settings
        self._tls = tls
        self._password_file = password_file
        self._rivals = Rivals(health)
        self._connection: MqttConnection | None = None
        self._lock = asyncio.Lock()
        self._keeper: asyncio.Task[None] | None = None
        # The ids of confirmed events of batches that failed, the oldest first.
        self._taken: dict[UUID, None] = {}

    async def open(self) -> None:
        """Connect. Raises MqttUnavailableError, and RefusedError for a login or right that the broker does not take."""
        async with self._lock:
            await self._connected()
        if self._keeper is None:
            self._keeper = asyncio.create_task(self._stay_connected(), name="mqtt-keeper")

    async def write(self, events: Sequence[DetectionsMade]) -> None:
        """Publish ``events`` until each is confirmed.

        Raises MqttUnavailableError, RefusedError and TooSlowError (again later), RecordTooLargeError, and
        PublishRefusedError (one message, or all).
        """
        async with self._lock:
            left = self._not_taken(events)
            messages = await asyncio.to_thread(self._messages, left)
            connection = await self._connected()
            await connection.publish(messages, lambda index: self._note_taken(left[index].id))
        for event in events:
            self._taken.pop(event.id, None)

    async def close(self) -> None:
        """Say that this process is offline, and disconnect."""
        if self._keeper is not None:
            self._keeper.cancel()
            with suppress(asyncio.CancelledError):
                await self._keeper
        connection, self._connection = self._connection, None
        if connection is not None:
            await connection.close()

    def _messages(self, events: Sequence[DetectionsMade]) -> list[Message]:
        return [detections_message(event, self._settings.topic, retain=self._settings.retain) for event in events]

    def _not_taken(self, events: Sequence[DetectionsMade]) -> list[DetectionsMade]:
        """Return ``events`` once each, per device from the first one on that is not confirmed, to keep the order.

        What is found in jobs is their clients' and left out, unless the settings say otherwise.
        """
        begun: set[str] = set()
        left: dict[UUID, DetectionsMade] = {}
        for event in events:
            if event.job_id is not None and not self._settings.jobs:
                continue
            if event.device_id in begun or event.id not in self._taken:
                begun.add(event.device_id)
                left.setdefault(event.id, event)
        return list(left.values())

    def _note_taken(self, event: UUID) -> None:
        self._taken[event] = None
        while len(self._taken) > _MOST_TAKEN:
            del self._taken[next(iter(self._taken))]

    async def _connected(self) -> MqttConnection:
        """Return the connection, or a new one after it has ended; the caller holds the lock."""
        # Imported here: it needs the extra "mqtt", while every process knows the sink by name.
        from sinks.mqtt.connection import connect  # noqa: PLC0415

        current = self._connection
        if current is not None and current.is_open:
            return current
        self._connection = None
        if current is not None and current.may_be_replaced:
            self._rivals.note_end(error_text(current.end_error()))
        if current is not None and current.was_refused:
            # Said once, before the next attempt: a new connection would hide that two processes fight for a name.
            raise current.end_error()
        password = await asyncio.to_thread(present_secret, self._password_file, self._settings.password)
        try:
            self._connection = await connect(self._settings, self.client_id, password, self._tls)
        except StandgaleError:
            self._rivals.note_no_broker()
            raise
        return self._connection

    async def _stay_connected(self) -> None:
        """Connect again while no event does, so that the broker has the right status after its own restart."""
        said: str | None = None
        while True:
            await asyncio.sleep(_LOOK_S)
            self._rivals.look()
            if self._lock.locked():
                continue
            error: StandgaleError | None = None
            if self._connection is not None and self._connection.was_refused:
                # Not connected again: two processes with one client id would end each other's connections without an
                # event to send.
                error = self._connection.end_error()
                if self._connection.may_be_replaced:
                    self._rivals.note_end(error_text(error))
            else:
                try:
                    async with self._lock:
                        await self._connected()
                except StandgaleError as failure:
                    error = failure
            text = None if error is None else error_text(error)
            if text is not None:
                # A person must act, and hears of it once; health says it only when an event waits.
                level = logging.WARNING if isinstance(error, RefusedError) and text != said else logging.DEBUG
                logger.log(level, "not connected to the MQTT broker: %s", text)
            said = text
