"""Tests failures that only Kafka has: restart, crash, lost response, fenced producer."""

from __future__ import annotations

import asyncio
import time

import pytest
from aiokafka import AIOKafkaProducer
from aiokafka.protocol.group import JoinGroupRequest
from pydantic import SecretStr

from infra.broker.kafka.adapter import KafkaBroker
from infra.broker.port import CommitPoint, GroupSpec, OutRecord
from infra.broker.settings import BrokerSettings
from infra.deploy.kafka import KafkaServer
from infra.errors import BrokerUnavailableError, PartitionLostError, SettingsError, TransientError
from tests.harnesses.topic_pair import TIMEOUT_S, TopicPair, copy_records

pytestmark = pytest.mark.integration


@pytest.mark.parametrize("crash", [False, True], ids=["restart", "crash"])
async def test_all_clients_continue_after_a_broker_restart(pair: TopicPair, *, crash: bool) -> None:
    publisher = await pair.broker.publisher()
    consumer = await pair.broker.consumer(pair.member())
    values = [b"%d" % number for number in range(120)]
    await publisher.publish([OutRecord(pair.input.name, "key", value) for value in values[:60]])
    await copy_records(pair, consumer, 30)

    where = pair.server.bootstrap_servers
    began = time.monotonic()
    try:
        if crash:
            pair.server.kill()
        else:
            pair.server.stop()
        assert not pair.server.is_serving()
        with pytest.raises(BrokerUnavailableError, match=r"127\.0\.0\.1"):
            await publisher.publish([OutRecord(pair.input.name, "other", b"in vain")])
        with pytest.raises(BrokerUnavailableError):
            while time.monotonic() < began + TIMEOUT_S:
                await consumer.poll(max_records=1, timeout_s=0.2, topics=["none of them"])
    finally:
        await asyncio.to_thread(pair.server.start)

    assert pair.server.bootstrap_servers == where
    await publisher.publish([OutRecord(pair.input.name, "key", value) for value in values[60:]])
    await copy_records(pair, consumer, len(values))
    await consumer.close()
    await publisher.close()
    assert [value for value in await pair.read_outputs() if value != b"in vain"] == values


def fail_after_commit(monkeypatch: pytest.MonkeyPatch, error: BaseException) -> None:
    """Let the next commit of a transaction raise ``error`` after the broker has done it."""
    commit = AIOKafkaProducer.commit_transaction

    async def committed(producer: AIOKafkaProducer) -> None:
        await commit(producer)
        monkeypatch.undo()
        raise error

    monkeypatch.setattr(AIOKafkaProducer, "commit_transaction", committed)


async def test_commit_with_a_lost_response_is_recognised_as_done(
    pair: TopicPair, monkeypatch: pytest.MonkeyPatch
) -> None:
    await pair.publish(b"1", b"2")
    consumer = await pair.broker.consumer(pair.member())
    records = await pair.poll_records(consumer, 2)
    fail_after_commit(monkeypatch, TimeoutError())
    await consumer.commit(pair.points(records[:1]), pair.copies(records[:1]))
    await consumer.commit(pair.points(records[1:]), pair.copies(records[1:]))
    assert await pair.read_outputs() == [b"1", b"2"]
    await consumer.close()


async def test_commit_that_never_reached_the_broker_can_be_repeated(
    pair: TopicPair, monkeypatch: pytest.MonkeyPatch
) -> None:
    await pair.publish(b"1")
    consumer = await pair.broker.consumer(pair.member())
    records = await pair.poll_records(consumer, 1)

    async def deaf(producer: AIOKafkaProducer) -> None:
        monkeypatch.undo()
        raise TimeoutError

    monkeypatch.setattr(AIOKafkaProducer, "commit_transaction", deaf)
    with pytest.raises(BrokerUnavailableError):
        await consumer.commit(pair.points(records), pair.copies(records))
    assert await pair.read_outputs() == []
    await consumer.commit(pair.points(records), pair.copies(records))
    assert await pair.read_outputs() == [b"1"]
    await consumer.close()


@pytest.mark.parametrize("happened", [True, False], ids=["happened", "did-not"])
async def test_doubtful_commit_is_decided_after_an_outage(
    pair: TopicPair, monkeypatch: pytest.MonkeyPatch, *, happened: bool
) -> None:
    """The broker is frozen from the commit on: the first attempt fails, the second must not commit twice."""
    await pair.publish(b"1", b"2")
    consumer = await pair.broker.consumer(pair.member(session_timeout_s=30.0))
    records = await pair.poll_records(consumer, 2)
    commit = AIOKafkaProducer.commit_transaction
    server = pair.server
    assert isinstance(server, KafkaServer)

    async def stunned(producer: AIOKafkaProducer) -> None:
        if happened:
            await commit(producer)
        monkeypatch.undo()
        server.freeze()
        raise TimeoutError

    monkeypatch.setattr(AIOKafkaProducer, "commit_transaction", stunned)
    try:
        with pytest.raises(BrokerUnavailableError):
            await consumer.commit(pair.points(records), pair.copies(records))
    finally:
        server.thaw()
    deadline = time.monotonic() + TIMEOUT_S
    while time.monotonic() < deadline:
        try:
            await consumer.commit(pair.points(records), pair.copies(records))
            break
        except BrokerUnavailableError:
            await asyncio.sleep(0.1)
        except PartitionLostError:
            # During the freeze the broker may have removed this member.
            await copy_records(pair, consumer, 2)
            break
    assert await pair.read_outputs() == [b"1", b"2"]
    await consumer.close()


async def test_commit_that_differs_from_the_doubtful_one_is_refused(
    pair: TopicPair, monkeypatch: pytest.MonkeyPatch
) -> None:
    await pair.publish(b"1", b"2")
    consumer = await pair.broker.consumer(pair.member())
    records = await pair.poll_records(consumer, 2)
    fail_after_commit(monkeypatch, asyncio.CancelledError())
    with pytest.raises(asyncio.CancelledError):
        await consumer.commit(pair.points(records[:1]), pair.copies(records[:1]))
    with pytest.raises(PartitionLostError, match="did happen"):
        await consumer.commit(pair.points(records), pair.copies(records))
    again = await pair.poll_records(consumer, 1)
    assert [record.value for record in again] == [b"2"]
    await consumer.commit(pair.points(again), pair.copies(again))
    assert await pair.read_outputs() == [b"1", b"2"]
    await consumer.close()


async def test_fenced_member_loses_its_partition_and_gets_it_again(pair: TopicPair) -> None:
    await pair.publish(b"1")
    consumer = await pair.broker.consumer(pair.member())
    records = await pair.poll_records(consumer, 1)
    usurper = AIOKafkaProducer(bootstrap_servers=pair.server.bootstrap_servers, transactional_id=f"{pair.group}-p0")
    await usurper.start()
    await usurper.stop()

    with pytest.raises(PartitionLostError):
        await consumer.commit(pair.points(records), pair.copies(records))
    assert dict(consumer.assignment()) == {}
    again = await pair.poll_records(consumer, 1)
    assert again[0].offset == 0
    assert again[0].epoch > records[0].epoch
    await consumer.commit(pair.points(again), pair.copies(again))
    assert await pair.read_outputs() == [b"1"]
    await consumer.close()


async def test_slow_caller_keeps_its_partitions(pair: TopicPair) -> None:
    await pair.publish(b"1")
    consumer = await pair.broker.consumer(pair.member(session_timeout_s=1.0))
    records = await pair.poll_records(consumer, 1)
    await asyncio.sleep(2.5)
    await consumer.commit(pair.points(records), pair.copies(records))
    assert await pair.read_outputs() == [b"1"]
    await consumer.close()


async def test_transaction_markers_are_not_lag(pair: TopicPair) -> None:
    await pair.publish(b"1", b"2")
    transformer = await pair.broker.consumer(pair.member())
    for record in await pair.poll_records(transformer, 2):
        await transformer.commit(pair.points([record]), pair.copies([record]))
    sink = await pair.broker.consumer(GroupSpec(f"{pair.group}-sink", (pair.output.name,)))
    last = (await pair.poll_records(sink, 2))[-1]
    await sink.commit({last.source: CommitPoint(last.offset + 1, last.epoch)})
    # Between these records and the next ones is the last transaction marker.
    assert await sink.poll(max_records=1, timeout_s=0.2) == []

    admin = await pair.broker.admin()
    assert dict(await sink.lag()) == {last.source: 0}
    assert dict(await admin.group_lag(f"{pair.group}-sink", [pair.output.name])) == {last.source: 0}
    await asyncio.gather(sink.close(), transformer.close(), admin.close())


async def test_latest_group_keeps_records_before_its_first_commit(pair: TopicPair) -> None:
    await pair.publish(b"before the group")
    member = GroupSpec(pair.group, (pair.input.name,), start="latest")
    first = await pair.broker.consumer(member)
    while not first.assignment():
        await first.poll(max_records=1, timeout_s=0.2)
    await first.close()
    await pair.publish(b"between two members")
    second = await pair.broker.consumer(member)
    assert [record.value for record in await pair.poll_records(second, 1)] == [b"between two members"]
    await second.close()


async def test_errors_without_a_broker_are_fast_and_have_no_password() -> None:
    settings = BrokerSettings(
        kind="kafka",
        bootstrap_servers="127.0.0.1:1",
        security_protocol="SASL_PLAINTEXT",
        sasl_username="standgale",
        sasl_password=SecretStr("do-not-tell"),
        request_timeout_s=0.5,
    )
    broker = KafkaBroker(settings, {})
    consumer = await broker.consumer(GroupSpec("group", ("topic",)))
    told = []
    for attempt in (broker.publisher, broker.reader, broker.admin, lambda: consumer.poll(max_records=1, timeout_s=0.1)):
        with pytest.raises(BrokerUnavailableError, match=r"127\.0\.0\.1:1") as caught:
            await attempt()
        told.append(f"{caught.value!r} {caught.value.__cause__!r}")
    assert not any("do-not-tell" in text for text in told)
    await consumer.close()
    await broker.close()


async def test_replaced_static_member_raises_and_does_not_rejoin(pair: TopicPair) -> None:
    await pair.publish(b"1")
    member = GroupSpec(pair.group, (pair.input.name,), instance_id="worker-1", outputs=True, session_timeout_s=1.5)
    former = await pair.broker.consumer(member)
    await pair.poll_records(former, 1)
    successor = await pair.broker.consumer(member)
    records = await pair.poll_records(successor, 1)

    with pytest.raises(SettingsError, match="worker-1"):
        while True:
            await former.poll(max_records=1, timeout_s=0.2)
    await successor.commit(pair.points(records), pair.copies(records))
    await pair.publish(b"2")
    assert [record.value for record in await pair.poll_records(successor, 1)] == [b"2"]
    await asyncio.gather(former.close(), successor.close())


async def test_group_reads_a_recreated_topic_from_its_start(pair: TopicPair) -> None:
    consumer = await pair.broker.consumer(pair.member())
    await pair.publish(*(b"%d" % number for number in range(20)))
    await consumer.commit(pair.points(await pair.poll_records(consumer, 20)))
    async with pair.admin() as admin:
        await admin.delete_topics([pair.input.name])
        await pair.wait_until_deleted(admin, pair.input)
    ours = await pair.broker.admin()
    await ours.apply([pair.input])
    await ours.close()
    # More than before, so that the committed offset is inside the new topic.
    await pair.publish(*(b"again %d" % number for number in range(30)))
    values: list[bytes | None] = []
    deadline = time.monotonic() + TIMEOUT_S
    while len(values) < 30:
        assert time.monotonic() < deadline, values
        try:
            values += [record.value for record in await consumer.poll(max_records=100, timeout_s=0.2)]
        except TransientError:
            continue
    assert values[-30:] == [b"again %d" % number for number in range(30)]
    await consumer.close()


async def test_own_join_with_a_lost_response_does_not_end_a_static_member(pair: TopicPair) -> None:
    """A frozen coordinator responds to a join for which no client waits any more, and gives out a new id."""
    await pair.publish(b"1")
    member = pair.member(instance_id="worker-1", session_timeout_s=2.0)
    consumer = await pair.broker.consumer(member)
    records = await pair.poll_records(consumer, 1)
    told = consumer._membership._static.assignor.metadata(member.topics).encode()
    async with pair.admin() as admin:
        join = JoinGroupRequest(member.group, 2000, 10_000, "", "worker-1", "consumer", [("range", told)])
        response = await admin._send_request(join, await admin.find_coordinator(member.group))
        assert response.error_code == 0
    # It is removed and joins again: the record is polled again, in a new epoch.
    again = await pair.poll_records(consumer, 1)
    assert again[0].epoch > records[0].epoch
    await consumer.commit(pair.points(again), pair.copies(again))
    assert await pair.read_outputs() == [b"1"]
    await consumer.close()
