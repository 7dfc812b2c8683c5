"""Publishing in order with confirmations: the window, refusals, limits of the broker, slow brokers, ends."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any, cast

import aiomqtt
import pytest
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties
from paho.mqtt.reasoncodes import ReasonCode

from infra.errors import RecordTooLargeError, RefusedError, TooSlowError
from schemas.errors import StandgaleError
from sinks.mqtt.connection import MqttConnection
from sinks.mqtt.errors import MqttUnavailableError, PublishRefusedError
from sinks.mqtt.messages import Message
from sinks.mqtt.settings import MqttSettings

MESSAGES = [Message(f"t/{number % 2}", b"%d" % number) for number in range(10)]
SUCCESS, NOT_AUTHORIZED, QUOTA = 0, 0x87, 0x97


class FakeClient:
    """Stands in for aiomqtt's client; ``reason`` gives the reason code of each message, None: no confirmation."""

    def __init__(self, reason: Callable[[int], int | None] = lambda _: SUCCESS, **limits: int) -> None:
        self.ended: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.news = asyncio.Event()
        self.confirmed: dict[int, ReasonCode] = {}
        self.broker = Properties(PacketTypes.CONNACK)
        for name, limit in limits.items():
            setattr(self.broker, name, limit)
        self.sent: list[int] = []
        self.most_waiting = 0
        self.delay_s = 0.0
        self._waiting = 0
        self._reason = reason

    def send(self, message: Message, properties: Properties) -> int | None:
        number = len(self.sent)
        self.sent.append(int(message.payload))
        self._waiting += 1
        self.most_waiting = max(self.most_waiting, self._waiting)
        asyncio.get_running_loop().call_later(self.delay_s, self._confirm, number)
        return number

    def abandon(self) -> None:
        if not self.ended.done():
            self.ended.set_result(None)

    def _confirm(self, number: int) -> None:
        reason = self._reason(self.sent[number])
        if reason is not None:
            self._waiting -= 1
            self.confirmed[number] = ReasonCode(PacketTypes.PUBACK, identifier=reason)
            self.news.set()


def connection_on(client: FakeClient, **settings: Any) -> MqttConnection:
    return MqttConnection(
        cast(Any, client), MqttSettings.model_validate({"url": "mqtt://127.0.0.1", **settings}), "standgale"
    )


async def test_publish_sends_in_order_and_keeps_to_the_smaller_window() -> None:
    client, taken = FakeClient(ReceiveMaximum=3), list[int]()
    await connection_on(client, in_flight=5).publish(MESSAGES, taken.append)
    assert client.sent == list(range(10))
    assert taken == list(range(10))
    assert client.most_waiting == 3


async def test_publish_after_a_refusal_sends_no_more_and_waits_for_those_before() -> None:
    client, taken = FakeClient(lambda number: NOT_AUTHORIZED if number == 4 else SUCCESS), list[int]()
    with pytest.raises(PublishRefusedError, match=r"a message to the topic 't/0' \(Not authorized\): let the user"):
        await connection_on(client, in_flight=2).publish(MESSAGES, taken.append)
    assert client.sent == [0, 1, 2, 3, 4, 5]
    assert taken == [0, 1, 2, 3, 5]


async def test_publish_to_a_broker_that_is_full_is_tried_again_later() -> None:
    with pytest.raises(MqttUnavailableError, match="Quota exceeded"):
        await connection_on(FakeClient(lambda _: QUOTA)).publish(MESSAGES)


async def test_publish_of_a_message_that_is_too_large_writes_those_before_it() -> None:
    client, taken = FakeClient(MaximumPacketSize=100), list[int]()
    large = Message("t/1", b"1" * 100)
    with pytest.raises(RecordTooLargeError, match=r"has \d+ bytes, where mqtt://127.0.0.1 takes 100"):
        await connection_on(client).publish([*MESSAGES[:2], large, MESSAGES[3]], taken.append)
    assert taken == [0, 1]


async def test_publish_that_takes_too_long_raises_with_nothing_unconfirmed() -> None:
    client, taken = FakeClient(), list[int]()
    client.delay_s = 0.25
    connection = connection_on(client, in_flight=1, timeout_s=1.0)
    with pytest.raises(TooSlowError, match=r"confirmed \d of 10 events within mqtt.timeout_s=1"):
        await connection.publish(MESSAGES, taken.append)
    assert client.sent == taken
    assert connection.is_open


async def test_publish_without_a_confirmation_ends_the_connection() -> None:
    connection = connection_on(FakeClient(lambda _: None), timeout_s=0.1)
    with pytest.raises(MqttUnavailableError, match="confirmed nothing within"):
        await connection.publish(MESSAGES)
    assert not connection.is_open


@pytest.mark.parametrize(
    ("code", "kind", "text"),
    [
        (0x8E, RefusedError, "another process connected .*STANDGALE_MQTT__CLIENT_ID"),
        (0x95, PublishRefusedError, "because of a message"),
        (0x87, RefusedError, "correct the rights"),
        (0x8B, MqttUnavailableError, "Server shutting down"),
    ],
)
async def test_end_of_the_connection_raises_what_its_reason_means(
    code: int, kind: type[StandgaleError], text: str
) -> None:
    client = FakeClient(lambda _: None)
    connection = connection_on(client)
    reason = ReasonCode(PacketTypes.DISCONNECT, identifier=code)
    asyncio.get_running_loop().call_later(0.02, client.ended.set_exception, aiomqtt.MqttCodeError(reason))
    with pytest.raises(kind, match=text):
        await connection.publish(MESSAGES)
    assert connection.was_refused is (kind is RefusedError)
