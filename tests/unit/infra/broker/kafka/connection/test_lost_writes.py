"""Tests that a write to a connection that uvloop has closed becomes a lost connection."""

from __future__ import annotations

import asyncio

import pytest

pytest.importorskip("aiokafka")

import uvloop
from aiokafka.conn import AIOKafkaConnection
from aiokafka.errors import KafkaConnectionError

from infra.broker.kafka.connection.link import Link
from infra.broker.settings import BrokerSettings


async def write_when_closed() -> AIOKafkaConnection:
    server = await asyncio.start_server(lambda reader, writer: None, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    connection = AIOKafkaConnection("127.0.0.1", port)
    connection._reader, connection._writer = await asyncio.open_connection("127.0.0.1", port)
    connection._read_task = asyncio.get_running_loop().create_future()
    lost = asyncio.create_task(connection._reader.read())
    connection._writer.transport.abort()
    await lost
    try:
        with pytest.raises(KafkaConnectionError, match="broken"):
            connection._send_sasl_token(b"token")
    finally:
        server.close()
    return connection


def test_write_to_a_connection_that_uvloop_closed_is_a_lost_connection() -> None:
    Link(BrokerSettings(kind="kafka"), {})
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        connection = runner.run(write_when_closed())
    assert connection._writer is None


async def test_other_runtime_errors_are_raised_unchanged() -> None:
    Link(BrokerSettings(kind="kafka"), {})
    Link(BrokerSettings(kind="kafka"), {})
    connection = AIOKafkaConnection("127.0.0.1", 1)

    class Open:
        def write(self, data: bytes) -> None:
            raise RuntimeError("a mistake")

        def is_closing(self) -> bool:
            return False

        def close(self) -> None:
            pass

    connection._writer = Open()
    with pytest.raises(RuntimeError, match="a mistake"):
        connection._send_sasl_token(b"token")
