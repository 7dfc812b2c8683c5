"""Measures what an event costs the MQTT sink, against aiomqtt alone with the same messages."""

from __future__ import annotations

import asyncio
import os
import shutil
import socket
import subprocess
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, suppress
from pathlib import Path

import aiomqtt
from paho.mqtt.properties import Properties

from bench.measure import take_turns
from bench.processes import BenchError, measured
from bench.result import RATIO, Figure, Goal, Result
from infra.deploy.ports import free_port
from sinks.mqtt.connection import properties_of
from sinks.mqtt.messages import Message, detections_message
from sinks.mqtt.settings import MqttSettings
from sinks.mqtt.sink import MqttSink
from standgale.testing.factories import detections_made

_BATCH = 500
_WINDOW = 20
_START_S = 10.0
_NOTE = (
    "Events with 5 detections each to a mosquitto on the same machine, in batches of 500, each confirmed (QoS 1), at "
    "most 20 unconfirmed (mosquitto's limit). Bare is `Client.publish` of aiomqtt with the finished messages, as many "
    "at once. Counted is the processor time of this process, not the broker's: waiting for the broker is no work."
)


def run(quick: bool) -> Result:
    """Publish events through the sink and messages without it, in turns."""
    return measured(lambda folder: _run(folder, 500 if quick else 2_000, 2 if quick else 3))


async def _run(folder: Path, count: int, rounds: int) -> Result:
    events = [detections_made(number, labels=["car"] * 5, device=f"drone-{number % 8}") for number in range(count)]
    batches = [events[first : first + _BATCH] for first in range(0, count, _BATCH)]
    async with _mosquitto(folder) as port:
        settings = MqttSettings(url=f"mqtt://127.0.0.1:{port}", in_flight=_WINDOW, timeout_s=60.0)
        made = [detections_message(event, settings.topic, retain=False) for event in events]
        messages = [(one, properties_of(one)) for one in made]
        sink = MqttSink(settings)
        await sink.open()

        async def ours() -> float:
            start = time.process_time()
            for batch in batches:
                await sink.write(batch)
            return count / (time.process_time() - start)

        async with aiomqtt.Client(
            "127.0.0.1", port, protocol=aiomqtt.ProtocolVersion.V5, max_concurrent_outgoing_calls=_WINDOW
        ) as client:
            client.pending_calls_threshold = _WINDOW
            found = await take_turns(ours, lambda: _bare(client, messages), rounds)
        await sink.close()
    return Result(
        "mqtt",
        f"MQTT, {count:,} events",
        (
            Figure("events published by the sink", found.our_rate, "events/s of processor time"),
            Figure("messages published by aiomqtt", found.bare_rate, "messages/s of processor time"),
            Figure("sink over aiomqtt", found.ratio, RATIO, Goal(0.8)),
        ),
        (_NOTE,),
    )


async def _bare(client: aiomqtt.Client, messages: Sequence[tuple[Message, Properties]]) -> float:
    start = time.process_time()
    for first in range(0, len(messages), _BATCH):
        some = messages[first : first + _BATCH]
        await asyncio.gather(*(client.publish(one.topic, one.payload, 1, properties=more) for one, more in some))
    return len(messages) / (time.process_time() - start)


@asynccontextmanager
async def _mosquitto(folder: Path) -> AsyncIterator[int]:
    program = shutil.which("mosquitto", path=os.pathsep.join((os.environ.get("PATH", ""), "/usr/sbin")))
    if program is None:
        raise BenchError("mosquitto is not there; install the package mosquitto")
    port, file = free_port(), folder / "mosquitto.conf"
    await asyncio.to_thread(file.write_text, f"listener {port} 127.0.0.1\nallow_anonymous true\n")
    process = await asyncio.create_subprocess_exec(
        program, "-c", str(file), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    try:
        async with asyncio.timeout(_START_S):
            while not await asyncio.to_thread(_listens, port):  # noqa: ASYNC110 (a port gives no event)
                await asyncio.sleep(0.02)
        yield port
    finally:
        process.terminate()
        await process.wait()


def _listens(port: int) -> bool:
    with suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=1):
        return True
    return False
