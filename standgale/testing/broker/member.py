"""Runs a group member in a process that tests kill and stop; its argument is JSON from ``BrokerHarness``.

``transform`` copies records from the first topic to the last, a few per commit, until it is killed. ``hold`` polls,
says ``polled``, waits for a line on stdin, commits with outputs, says ``committed`` or ``lost``, and leaves.
"""

from __future__ import annotations

import asyncio
import base64
import pickle
import sys
from collections.abc import Sequence

import orjson

from infra.broker.port import CommitPoint, Consumer, GroupSpec, InRecord, OutRecord
from infra.errors import BrokerUnavailableError, PartitionLostError
from schemas.topics import TopicSpec
from standgale.testing.broker.harness import OpenBroker


async def commit(consumer: Consumer, records: Sequence[InRecord], output: str) -> bool:
    """Commit a copy of each of ``records``, partition by partition; False when one of them was lost."""
    kept = True
    for source in sorted({record.source for record in records}):
        mine = [record for record in records if record.source == source]
        points = {source: CommitPoint(mine[-1].offset + 1, mine[-1].epoch)}
        outputs = [OutRecord(output, record.key or "", record.value, record.headers) for record in mine]
        try:
            await consumer.commit(points, outputs)
        except PartitionLostError:
            kept = False
    return kept


async def transform(consumer: Consumer, output: str) -> None:
    """Copy records until killed."""
    while True:
        try:
            records = await consumer.poll(max_records=6, timeout_s=0.5)
            await commit(consumer, records, output)
        except BrokerUnavailableError as error:
            print(error, file=sys.stderr, flush=True)
        await asyncio.sleep(0.01)


async def hold(consumer: Consumer, output: str) -> None:
    """Poll, wait for a line, commit."""
    records: list[InRecord] = []
    while not records:
        records = await consumer.poll(max_records=100, timeout_s=0.5)
    print("polled", flush=True)
    await asyncio.to_thread(sys.stdin.readline)
    print("committed" if await commit(consumer, records, output) else "lost", flush=True)


async def main() -> None:
    """Join and work as the command line says."""
    task = orjson.loads(sys.argv[1])
    specs = [TopicSpec.model_validate(spec) for spec in task["topics"]]
    open_broker: OpenBroker = pickle.loads(base64.b64decode(task["open_broker"]))
    broker = open_broker({spec.name: spec for spec in specs})
    member = GroupSpec(
        task["group"],
        (specs[0].name,),
        instance_id=task["instance_id"],
        outputs=True,
        session_timeout_s=task["session_timeout_s"],
    )
    consumer = await broker.consumer(member)
    try:
        await {"transform": transform, "hold": hold}[task["mode"]](consumer, specs[-1].name)
    finally:
        await consumer.close()
        await broker.close()


if __name__ == "__main__":
    asyncio.run(main())
