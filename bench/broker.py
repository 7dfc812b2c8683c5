"""Measures how many durable events per second the embedded broker publishes, and consumes and commits."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path
from statistics import median

from bench.processes import measured
from bench.result import Figure, Goal, Result
from bench.streams import BATCH, VALUE_BYTES, carry, events, fill, keys, topic
from infra.broker.embedded.adapter import EmbeddedBroker

GOAL = 10_000.0
_PARTITIONS = 8
_CALLERS = 8
_SINGLE_EVENTS = 2_000
_SINGLE_CALLERS = 32
_NOTE = (
    f"{VALUE_BYTES} byte values that do not compress, {_PARTITIONS} partitions, {BATCH} events per publish and per "
    "transaction. Every publish and every commit returns after its fsync. One process; the file is SQLite in WAL mode."
)


def run(quick: bool) -> Result:
    """Measure filling and copying topics, several times."""
    return measured(lambda folder: _run(folder, quick))


async def _run(folder: Path, quick: bool) -> Result:
    count, rounds = (8_000, 1) if quick else (40_000, 3)
    names = keys(_PARTITIONS)
    published, carried = [], []
    for number in range(rounds):
        source, target = topic("bench.in", _PARTITIONS), topic("bench.out", _PARTITIONS)
        broker = EmbeddedBroker(folder / f"{number}.sqlite", {each.name: each for each in (source, target)})
        try:
            load = [record for name in names for record in events(source.name, name, count // _PARTITIONS)]
            published.append(await fill(broker, load, _CALLERS))
            carried.append(await carry(broker, "bench", source.name, target.name, len(load)))
            single = await _single(broker, source.name, names[0])
        finally:
            await broker.close()
    return Result(
        "broker",
        "Embedded broker, durable",
        (
            Figure("publish", median(published), "events/s", Goal(GOAL)),
            Figure("consume, transform, commit", median(carried), "events/s", Goal(GOAL)),
            Figure(f"publish one by one, {_SINGLE_CALLERS} callers", single, "events/s"),
        ),
        (_NOTE,),
    )


async def _single(broker: EmbeddedBroker, name: str, key: str) -> float:
    """Return events per second when every caller waits for each single event, as the gateway's requests do."""
    publisher = await broker.publisher()
    waiting = iter(events(name, key, _SINGLE_EVENTS))

    async def publish() -> None:
        for record in waiting:
            await publisher.publish([record])

    start = time.perf_counter()
    try:
        await asyncio.gather(*(publish() for _ in range(_SINGLE_CALLERS)))
        return _SINGLE_EVENTS / (time.perf_counter() - start)
    finally:
        await publisher.close()
