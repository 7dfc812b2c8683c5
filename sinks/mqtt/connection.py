"""Connects to an MQTT 5 broker, and publishes messages in order until the broker has confirmed each."""

from __future__ import annotations

import asyncio
import logging
import socket
import ssl
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from copy import copy
from typing import Any

import aiomqtt
from paho.mqtt.client import Client as PahoClient
from paho.mqtt.client import ConnectFlags
from paho.mqtt.enums import MQTTErrorCode
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties
from paho.mqtt.reasoncodes import ReasonCode

from infra.errors import RecordTooLargeError, RefusedError, TooSlowError
from schemas.errors import StandgaleError
from sinks.metrics import MQTT_EVENTS
from sinks.mqtt.errors import MqttUnavailableError, closed_error, connect_error, is_takeover, publish_error
from sinks.mqtt.messages import Message
from sinks.mqtt.settings import CLIENT, MqttSettings

logger = logging.getLogger(__name__)

ONLINE, OFFLINE = b"online", b"offline"
_FAILED = 0x80
"""Reason codes from here on are failures."""
_NOBODY = 0x10
"""The broker took the message, and nobody has subscribed to it."""
# Fixed header and packet id; the rest of a packet is topic, properties and payload.
_HEADER_BYTES = 9
_CLOSE_S = 2.0
# A new one fills three tables of names and numbers, which costs more than all other work; copies share them.
_NO_PROPERTIES = Properties(PacketTypes.PUBLISH)  # type: ignore[no-untyped-call]


class _Client(aiomqtt.Client):
    """Keeps what the broker says in confirmations and about its limits, which aiomqtt's own client drops."""

    def __init__(self, *arguments: Any, **options: Any) -> None:
        self.news = asyncio.Event()
        self.confirmed: dict[int, ReasonCode] = {}
        self.broker: Properties | None = None
        """What the broker said about its limits"""
        super().__init__(*arguments, **options)

    @property
    def ended(self) -> asyncio.Future[None]:
        """Is done when the connection has ended, with the reason if there is one."""
        return self._disconnected

    def send(self, message: Message, properties: Properties) -> int | None:
        """Send ``message`` with QoS 1 and return its number, which ``confirmed`` gets; None: there is no connection."""
        info = self._client.publish(message.topic, message.payload, 1, message.retain, properties)
        return info.mid if info.rc == MQTTErrorCode.MQTT_ERR_SUCCESS else None

    def abandon(self) -> None:
        """Close the connection without telling the broker, which then sends the will; its reader cleans up."""
        connection = self._client.socket()
        if isinstance(connection, socket.socket):
            with suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)

    def _on_connect(
        self,
        client: PahoClient,
        userdata: Any,
        flags: ConnectFlags,
        reason_code: ReasonCode,
        properties: Properties | None = None,
    ) -> None:
        self.broker = properties
        super()._on_connect(client, userdata, flags, reason_code, properties)

    def _on_publish(
        self, client: PahoClient, userdata: Any, mid: int, reason_code: ReasonCode, properties: Properties
    ) -> None:
        self.confirmed[mid] = reason_code
        self.news.set()
        super()._on_publish(client, userdata, mid, reason_code, properties)


class MqttConnection:
    """Holds one connection. Any error that is not about a single message ends it; then a new one is needed."""

    def __init__(self, client: _Client, settings: MqttSettings, client_id: str) -> None:
        self._client = client
        self._settings = settings
        self._client_id = client_id
        self._window = min(settings.in_flight, getattr(client.broker, "ReceiveMaximum", 65_535))
        self._most_bytes: int | None = getattr(client.broker, "MaximumPacketSize", None)
        client.ended.add_done_callback(self._note_end)

    @property
    def is_open(self) -> bool:
        """Whether the connection has not ended, as far as is known."""
        return not self._client.ended.done()

    @property
    def was_refused(self) -> bool:
        """Whether the broker ended it for a reason that a person has to change, such as another process of its name."""
        return not self.is_open and isinstance(self.end_error(), RefusedError)

    @property
    def may_be_replaced(self) -> bool:
        """Whether it ended as it does when another process connects with the same client id; some brokers say so."""
        return not self.is_open and is_takeover(self._end_reason()[0])

    async def publish(self, messages: Sequence[Message], taken: Callable[[int], None] = lambda _: None) -> None:
        """Publish ``messages`` in order; call ``taken`` with the index of each that the broker has confirmed.

        At most ``mqtt.in_flight`` wait for their confirmation. After a message that the broker refuses no more are
        sent, and those before it are waited for. Raises RecordTooLargeError or PublishRefusedError (of one message),
        TooSlowError (some are taken, and the rest would be with fewer), MqttUnavailableError, or RefusedError.
        """
        waiting: dict[int, int] = {}
        following = 0
        refusal: StandgaleError | None = None
        until = time.monotonic() + self._settings.timeout_s
        while True:
            late = time.monotonic() >= until
            while following < len(messages) and len(waiting) < self._window and not (refusal or late):
                try:
                    waiting[self._send(messages[following])] = following
                    following += 1
                except RecordTooLargeError as error:
                    refusal = error
            refusal = self._take_confirmations(waiting, messages, taken) or refusal
            if waiting:
                await self._wait_for_news()
            elif refusal:
                raise refusal
            elif following == len(messages):
                return
            elif late:
                raise TooSlowError(
                    f"{self._settings.url} confirmed {following} of {len(messages)} events within mqtt.timeout_s="
                    f"{self._settings.timeout_s:g}"
                )

    async def close(self, *, has_status: bool = True) -> None:
        """Say that this process is offline, if it has a status and the broker listens, and disconnect."""
        try:
            async with asyncio.timeout(_CLOSE_S):
                if has_status and self.is_open:
                    await self.publish([status_message(self._settings, self._client_id, OFFLINE)])
                await self._client.__aexit__(None, None, None)
        except (StandgaleError, aiomqtt.MqttError, TimeoutError) as error:
            # The broker then sends the will, which says the same.
            logger.info("the connection to %s was not closed in order: %s", self._settings.url, error)
            self._client.abandon()

    def _send(self, message: Message) -> int:
        if not self.is_open:
            raise self.end_error()
        properties = properties_of(message)
        if self._most_bytes is not None:
            self._check_size(message, properties, self._most_bytes)
        mid = self._client.send(message, properties)
        if mid is None:
            self._client.abandon()
            raise self.end_error()
        return mid

    def _check_size(self, message: Message, properties: Properties, most: int) -> None:
        packed: bytes = properties.pack()  # type: ignore[no-untyped-call]
        size = _HEADER_BYTES + len(message.topic.encode()) + len(packed) + len(message.payload)
        if size > most:
            raise RecordTooLargeError(
                f"an event for the topic {message.topic!r} has {size} bytes, where {self._settings.url} takes {most}; "
                "raise the broker's limit, and send the dead letter again"
            )

    def _take_confirmations(
        self, waiting: dict[int, int], messages: Sequence[Message], taken: Callable[[int], None]
    ) -> StandgaleError | None:
        """Remove what was confirmed from ``waiting``; return the error of the first message that was refused."""
        refused: list[tuple[int, StandgaleError]] = []
        self._client.news.clear()
        confirmed = self._client.confirmed
        for mid in [mid for mid in confirmed if mid in waiting]:
            index, reason = waiting.pop(mid), confirmed.pop(mid)
            if reason.value >= _FAILED:
                MQTT_EVENTS.labels("refused").inc()
                error = publish_error(self._settings, messages[index].topic, reason.value, str(reason))
                refused.append((index, error))
            else:
                MQTT_EVENTS.labels("unheard" if reason.value == _NOBODY else "taken").inc()
                taken(index)
        # Those of an earlier call, which was cancelled.
        confirmed.clear()
        return min(refused, key=lambda each: each[0])[1] if refused else None

    async def _wait_for_news(self) -> None:
        if not self.is_open:
            raise self.end_error()
        try:
            async with asyncio.timeout(self._settings.timeout_s):
                await self._client.news.wait()
        except TimeoutError as error:
            # What is on its way cannot be told from what is lost, so it is all sent again by a new connection.
            self._client.abandon()
            raise MqttUnavailableError(
                f"{self._settings.url} confirmed nothing within mqtt.timeout_s={self._settings.timeout_s:g}"
            ) from error

    def _note_end(self, ended: asyncio.Future[None]) -> None:
        error = None if ended.cancelled() else ended.exception()
        logger.debug("the connection to %s has ended: %s", self._settings.url, error)
        self._client.news.set()

    def end_error(self) -> StandgaleError:
        """Return the error that says why the connection has ended."""
        return closed_error(self._settings, self._client_id, *self._end_reason())

    def _end_reason(self) -> tuple[int | None, str]:
        ended = self._client.ended
        error = ended.exception() if ended.done() and not ended.cancelled() else None
        reason = error.rc if isinstance(error, aiomqtt.MqttCodeError) else None
        code = reason.value if isinstance(reason, ReasonCode) else None
        return code, str(reason) if reason is not None else str(error or "without a reason")


async def connect(
    settings: MqttSettings, client_id: str, password: str | None, tls: ssl.SSLContext | None, *, has_status: bool = True
) -> MqttConnection:
    """Connect as ``client_id``; with ``has_status`` the broker says at once whether this process is online.

    Raises MqttUnavailableError, and RefusedError for a login, right, certificate or version that it does not take.
    """
    will = aiomqtt.Will(status_topic(settings, client_id), OFFLINE, 1, True)
    client = _Client(
        settings.host,
        settings.port,
        username=settings.username,
        password=password,
        identifier=client_id,
        protocol=aiomqtt.ProtocolVersion.V5,
        will=will if has_status else None,
        timeout=settings.timeout_s,
        keepalive=settings.keepalive_s,
        clean_start=True,
        max_inflight_messages=settings.in_flight,
        tls_context=tls,
        logger=logger,
    )
    try:
        await client.__aenter__()
        connection = MqttConnection(client, settings, client_id)
        _require_confirmations(settings, client)
        if has_status:
            await connection.publish([status_message(settings, client_id, ONLINE)])
    except BaseException as error:
        client.abandon()
        if isinstance(error, aiomqtt.MqttError):
            raise _connect_error(settings, client_id, error) from error
        raise
    return connection


def status_topic(settings: MqttSettings, client_id: str) -> str:
    """Return the topic that says whether the process ``client_id`` is online."""
    return settings.status_topic.replace(CLIENT, client_id)


def status_message(settings: MqttSettings, client_id: str, status: bytes) -> Message:
    """Return the message, kept by the broker, that the process ``client_id`` has ``status``."""
    return Message(status_topic(settings, client_id), status, content_type="text/plain", retain=True)


def properties_of(message: Message) -> Properties:
    """Return the properties with which ``message`` is published."""
    properties = copy(_NO_PROPERTIES)
    if message.content_type is not None:
        properties.ContentType = message.content_type
    if message.attributes:
        properties.UserProperty = list(message.attributes)
    return properties


def _require_confirmations(settings: MqttSettings, client: _Client) -> None:
    if getattr(client.broker, "MaximumQoS", 2) < 1:
        raise RefusedError(f"{settings.url} confirms no messages (its highest QoS is 0); allow QoS 1 there")
    if not getattr(client.broker, "RetainAvailable", 1):
        raise RefusedError(f"{settings.url} keeps no messages (retain is off), which the status needs; allow it there")


def _connect_error(settings: MqttSettings, client_id: str, error: aiomqtt.MqttError) -> StandgaleError:
    reason = error.rc if isinstance(error, aiomqtt.MqttCodeError) else None
    if isinstance(reason, ReasonCode):
        return connect_error(settings, client_id, reason.value, str(reason))
    # aiomqtt makes its own error of one of the system, and leaves out the cause.
    if isinstance(error.__context__, ssl.SSLError):
        return RefusedError(
            f"{settings.url}: no TLS connection ({error.__context__}); correct {settings.named('ca_file')}, or the "
            "broker's certificate"
        )
    return MqttUnavailableError(f"{settings.url} is not reachable ({error})")
