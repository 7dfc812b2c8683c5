"""A group member in a process of its own, to be killed and stopped: ``broker_member.py '{"mode": …}'``.

``transform`` copies records from the first topic to the last, a few per commit, until it is killed. ``hold`` polls,
says ``polled``, waits for a line on stdin, commits with outputs, says ``committed`` or ``lost``, and leaves.
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Sequence
from pathlib import Path

import orjson

from infra.broker.open import open_broker
from infra.broker.port import CommitPoint, Consumer, GroupSpec, InRecord, OutRecord
from infra.errors import BrokerUnavailableError, PartitionLostError
from infra.settings import BrokerSettings
from schemas.topics import TopicSpec


async def commit(consumer: Consumer, records: Sequence[InRecord], output: str) -> bool:
    """Commit a copy of each of ``records``, partition by partition; False when one of them was lost."""
    kept = True
    for source in sorted({record.source for record in records}):
        mine = [record for record in records if record.source == source]
        progress = {source: CommitPoint(mine[-1].offset + 1, mine[-1].epoch)}
        outputs = [OutRecord(output, record.key or "", record.value, record.headers) for record in mine]
        try:
            await consumer.commit(progress, outputs)
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
    """Join as told on the command line."""
    told = orjson.loads(sys.argv[1])
    specs = [TopicSpec.model_validate(spec) for spec in told["topics"]]
    settings = BrokerSettings.model_validate(told["settings"])
    broker = open_broker(settings, Path(told["data_dir"]), {spec.name: spec for spec in specs})
    member = GroupSpec(
        told["group"],
        (specs[0].name,),
        instance_id=told["instance_id"],
        outputs=True,
        session_timeout_s=told["session_timeout_s"],
    )
    consumer = await broker.consumer(member)
    try:
        await {"transform": transform, "hold": hold}[told["mode"]](consumer, specs[-1].name)
    finally:
        await consumer.close()
        await broker.close()


if __name__ == "__main__":
    asyncio.run(main())
