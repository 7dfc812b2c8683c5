"""A group that commits outputs reads topics of different topic sets, as the sink of the ends of jobs does."""

from __future__ import annotations

import asyncio
import uuid
from collections import Counter
from collections.abc import Sequence

import pytest
from aiokafka.admin import AIOKafkaAdminClient

from infra.broker.kafka.adapter import KafkaBroker
from infra.broker.port import Admin, CommitPoint, Consumer, GroupSpec, OutRecord
from infra.deploy.kafka import KafkaServer
from schemas.errors import StandgaleError
from schemas.topics import JOBS, REDRIVE, TopicSpec, load_topics
from standgale.testing.factories import topic_spec
from standgale.testing.waiting import until
from tests.harnesses.topic_pair import TIMEOUT_S
from tests.servers.kafka import kafka_settings

pytestmark = pytest.mark.integration


async def test_two_members_read_topics_of_different_counts_and_commit_outputs(kafka_server: KafkaServer) -> None:
    name, declared = f"k{uuid.uuid4().hex[:8]}", load_topics()
    counts = {"jobs": declared[JOBS].partitions, "redrive": declared[REDRIVE].partitions, "out": 1}
    assert counts["jobs"] != counts["redrive"]
    specs = {role: topic_spec(f"{name}.{role}", partitions=count, group=role) for role, count in counts.items()}
    broker = KafkaBroker(kafka_settings(kafka_server), {spec.name: spec for spec in specs.values()})
    admin, publisher = await broker.admin(), await broker.publisher()
    await admin.apply(list(specs.values()))
    inputs = (specs["jobs"].name, specs["redrive"].name)
    sent = [OutRecord(topic, f"key-{number}", b"%d" % number) for topic in inputs for number in range(40)]
    group = GroupSpec(f"{name}-group", inputs, None, "earliest", True, 6.0)
    members = await asyncio.gather(broker.consumer(group), broker.consumer(group))
    done: Counter[tuple[str, bytes | None]] = Counter()
    working = [asyncio.create_task(_copy(member, specs["out"].name, done)) for member in members]
    await until(lambda: all(member.assignment() for member in members), "both members own partitions")
    await publisher.publish(sent)
    await until(lambda: len(done) == len(sent), lambda: f"{len(done)} of {len(sent)} records")
    owned = [{(source.topic, source.partition) for source in member.assignment()} for member in members]
    for task in working:
        task.cancel()
    await asyncio.gather(*working, return_exceptions=True)
    assert set(done.values()) == {1}
    assert not owned[0] & owned[1] and len(owned[0] | owned[1]) == counts["jobs"] + counts["redrive"]
    assert sum((await admin.group_lag(group.group, inputs)).values()) == 0
    await broker.close()


async def test_a_static_member_reads_a_topic_that_was_missing_when_partitions_were_divided(
    kafka_server: KafkaServer,
) -> None:
    """Kafka gives it the partitions that it had, without those of the missing topic."""
    name = f"k{uuid.uuid4().hex[:8]}"
    specs = [topic_spec(f"{name}.{role}", partitions=4, group="device") for role in ("live", "jobs")]
    broker = KafkaBroker(kafka_settings(kafka_server, request_timeout_s=4.0), {spec.name: spec for spec in specs})
    admin, publisher = await broker.admin(), await broker.publisher()
    await admin.apply(specs)
    live, jobs = (spec.name for spec in specs)
    member = await broker.consumer(GroupSpec(f"{name}-group", (live, jobs), "worker-1", "earliest", True, 10.0))
    done: Counter[tuple[str, bytes | None]] = Counter()
    working = asyncio.create_task(_copy(member, live, done))
    await until(lambda: len(member.assignment()) == 8, "all partitions", TIMEOUT_S)
    deleting = AIOKafkaAdminClient(bootstrap_servers=kafka_server.bootstrap_servers)
    await deleting.start()
    await deleting.delete_topics([jobs])
    await deleting.close()
    await until(lambda: not member.assignment(), "the missing topic is noticed", TIMEOUT_S)
    # The consumer that was dropped joins once more meanwhile.
    await asyncio.sleep(4)
    await until(lambda: _applied(admin, specs), "the topic is deleted", TIMEOUT_S)
    await until(lambda: len(member.assignment()) == 8, lambda: f"{sorted(member.assignment())}", TIMEOUT_S)
    await publisher.publish([OutRecord(jobs, f"key-{number}", b"%d" % number) for number in range(8)])
    await until(lambda: sum(topic == jobs for topic, _ in done) == 8, lambda: f"{done}", TIMEOUT_S)
    working.cancel()
    await asyncio.gather(working, return_exceptions=True)
    await broker.close()


async def _applied(admin: Admin, specs: Sequence[TopicSpec]) -> bool:
    try:
        await admin.apply(specs)
    except StandgaleError:
        return False
    return True


async def _copy(member: Consumer, target: str, done: Counter[tuple[str, bytes | None]]) -> None:
    while True:
        try:
            for record in await member.poll(max_records=10, timeout_s=0.2):
                point = {record.source: CommitPoint(record.offset + 1, record.epoch)}
                await member.commit(point, [OutRecord(target, "key", record.value)])
                done[record.topic, record.value] += 1
        except StandgaleError:
            await asyncio.sleep(0.1)
