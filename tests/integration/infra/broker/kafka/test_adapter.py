"""What only Kafka can do to its adapter: go away, crash, lose an answer, and fence a producer."""

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
from tests.support_kafka_stage import TIMEOUT_S, Stage, copy

pytestmark = pytest.mark.integration


@pytest.mark.parametrize("crash", [False, True], ids=["restart", "crash"])
async def test_all_parts_outlive_a_restart_of_the_broker(stage: Stage, *, crash: bool) -> None:
    publisher = await stage.broker.publisher()
    consumer = await stage.broker.consumer(stage.member())
    values = [b"%d" % number for number in range(120)]
    await publisher.publish([OutRecord(stage.input.name, "key", value) for value in values[:60]])
    await copy(stage, consumer, 30)

    where = stage.server.bootstrap_servers
    began = time.monotonic()
    try:
        if crash:
            stage.server.kill()
        else:
            stage.server.stop()
        assert not stage.server.answers()
        with pytest.raises(BrokerUnavailableError, match=r"127\.0\.0\.1"):
            await publisher.publish([OutRecord(stage.input.name, "other", b"in vain")])
        with pytest.raises(BrokerUnavailableError):
            while time.monotonic() < began + TIMEOUT_S:
                await consumer.poll(max_records=1, timeout_s=0.2, topics=["none of them"])
    finally:
        await asyncio.to_thread(stage.server.start)

    assert stage.server.bootstrap_servers == where
    await publisher.publish([OutRecord(stage.input.name, "key", value) for value in values[60:]])
    await copy(stage, consumer, len(values))
    await consumer.close()
    await publisher.close()
    assert [value for value in await stage.answered() if value != b"in vain"] == values


async def test_a_commit_whose_answer_was_lost_is_known_to_have_happened(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    await stage.publish(b"1", b"2")
    consumer = await stage.broker.consumer(stage.member())
    records = await stage.take(consumer, 2)
    commit = AIOKafkaProducer.commit_transaction

    async def mute(producer: AIOKafkaProducer) -> None:
        await commit(producer)
        monkeypatch.undo()
        raise TimeoutError

    monkeypatch.setattr(AIOKafkaProducer, "commit_transaction", mute)
    await consumer.commit(stage.progress(records[:1]), stage.answers(records[:1]))
    await consumer.commit(stage.progress(records[1:]), stage.answers(records[1:]))
    assert await stage.answered() == [b"1", b"2"]
    await consumer.close()


async def test_a_commit_that_never_reached_the_broker_can_be_tried_again(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    await stage.publish(b"1")
    consumer = await stage.broker.consumer(stage.member())
    records = await stage.take(consumer, 1)

    async def deaf(producer: AIOKafkaProducer) -> None:
        monkeypatch.undo()
        raise TimeoutError

    monkeypatch.setattr(AIOKafkaProducer, "commit_transaction", deaf)
    with pytest.raises(BrokerUnavailableError):
        await consumer.commit(stage.progress(records), stage.answers(records))
    assert await stage.answered() == []
    await consumer.commit(stage.progress(records), stage.answers(records))
    assert await stage.answered() == [b"1"]
    await consumer.close()


@pytest.mark.parametrize("happened", [True, False], ids=["happened", "did-not"])
async def test_a_doubt_outlasts_the_outage_that_made_it(
    stage: Stage, monkeypatch: pytest.MonkeyPatch, *, happened: bool
) -> None:
    """The broker stands still from the commit on: the first try fails, the second must not double anything."""
    await stage.publish(b"1", b"2")
    consumer = await stage.broker.consumer(stage.member(session_timeout_s=30.0))
    records = await stage.take(consumer, 2)
    commit = AIOKafkaProducer.commit_transaction
    server = stage.server
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
            await consumer.commit(stage.progress(records), stage.answers(records))
    finally:
        server.thaw()
    deadline = time.monotonic() + TIMEOUT_S
    while time.monotonic() < deadline:
        try:
            await consumer.commit(stage.progress(records), stage.answers(records))
            break
        except BrokerUnavailableError:
            await asyncio.sleep(0.1)
        except PartitionLostError:
            # The broker may have taken the standstill for our absence.
            await copy(stage, consumer, 2)
            break
    assert await stage.answered() == [b"1", b"2"]
    await consumer.close()


async def test_another_commit_than_the_one_in_doubt_is_refused(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    await stage.publish(b"1", b"2")
    consumer = await stage.broker.consumer(stage.member())
    records = await stage.take(consumer, 2)
    commit = AIOKafkaProducer.commit_transaction

    async def cancelled(producer: AIOKafkaProducer) -> None:
        await commit(producer)
        monkeypatch.undo()
        raise asyncio.CancelledError

    monkeypatch.setattr(AIOKafkaProducer, "commit_transaction", cancelled)
    with pytest.raises(asyncio.CancelledError):
        await consumer.commit(stage.progress(records[:1]), stage.answers(records[:1]))
    with pytest.raises(PartitionLostError, match="did happen"):
        await consumer.commit(stage.progress(records), stage.answers(records))
    again = await stage.take(consumer, 1)
    assert [record.value for record in again] == [b"2"]
    await consumer.commit(stage.progress(again), stage.answers(again))
    assert await stage.answered() == [b"1", b"2"]
    await consumer.close()


async def test_a_fenced_member_loses_its_partition_and_gets_it_back(stage: Stage) -> None:
    await stage.publish(b"1")
    consumer = await stage.broker.consumer(stage.member())
    records = await stage.take(consumer, 1)
    usurper = AIOKafkaProducer(bootstrap_servers=stage.server.bootstrap_servers, transactional_id=f"{stage.group}-p0")
    await usurper.start()
    await usurper.stop()

    with pytest.raises(PartitionLostError):
        await consumer.commit(stage.progress(records), stage.answers(records))
    assert dict(consumer.assignment()) == {}
    again = await stage.take(consumer, 1)
    assert again[0].offset == 0
    assert again[0].epoch > records[0].epoch
    await consumer.commit(stage.progress(again), stage.answers(again))
    assert await stage.answered() == [b"1"]
    await consumer.close()


async def test_a_slow_caller_keeps_its_partitions(stage: Stage) -> None:
    await stage.publish(b"1")
    consumer = await stage.broker.consumer(stage.member(session_timeout_s=1.0))
    records = await stage.take(consumer, 1)
    await asyncio.sleep(2.5)
    await consumer.commit(stage.progress(records), stage.answers(records))
    assert await stage.answered() == [b"1"]
    await consumer.close()


async def test_the_marks_that_end_transactions_are_no_lag(stage: Stage) -> None:
    await stage.publish(b"1", b"2")
    transformer = await stage.broker.consumer(stage.member())
    for record in await stage.take(transformer, 2):
        await transformer.commit(stage.progress([record]), stage.answers([record]))
    sink = await stage.broker.consumer(GroupSpec(f"{stage.group}-sink", (stage.output.name,)))
    last = (await stage.take(sink, 2))[-1]
    await sink.commit({last.source: CommitPoint(last.offset + 1, last.epoch)})
    # Between the records and the next ones the reader passes the last mark.
    assert await sink.poll(max_records=1, timeout_s=0.2) == []

    admin = await stage.broker.admin()
    assert dict(await sink.lag()) == {last.source: 0}
    assert dict(await admin.group_lag(f"{stage.group}-sink", [stage.output.name])) == {last.source: 0}
    await asyncio.gather(sink.close(), transformer.close(), admin.close())


async def test_a_late_group_does_not_skip_what_came_before_its_first_commit(stage: Stage) -> None:
    await stage.publish(b"before the group")
    member = GroupSpec(stage.group, (stage.input.name,), start="latest")
    first = await stage.broker.consumer(member)
    while not first.assignment():
        await first.poll(max_records=1, timeout_s=0.2)
    await first.close()
    await stage.publish(b"between two members")
    second = await stage.broker.consumer(member)
    assert [record.value for record in await stage.take(second, 1)] == [b"between two members"]
    await second.close()


async def test_without_a_broker_errors_come_soon_and_hold_no_password() -> None:
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


async def test_a_process_whose_name_another_took_says_so_and_stays_away(stage: Stage) -> None:
    await stage.publish(b"1")
    member = GroupSpec(stage.group, (stage.input.name,), instance_id="worker-1", outputs=True, session_timeout_s=1.5)
    former = await stage.broker.consumer(member)
    await stage.take(former, 1)
    successor = await stage.broker.consumer(member)
    records = await stage.take(successor, 1)

    with pytest.raises(SettingsError, match="worker-1"):
        while True:
            await former.poll(max_records=1, timeout_s=0.2)
    await successor.commit(stage.progress(records), stage.answers(records))
    await stage.publish(b"2")
    assert [record.value for record in await stage.take(successor, 1)] == [b"2"]
    await asyncio.gather(former.close(), successor.close())


async def test_a_group_goes_on_with_the_start_of_a_topic_made_again(stage: Stage) -> None:
    consumer = await stage.broker.consumer(stage.member())
    await stage.publish(*(b"%d" % number for number in range(20)))
    await consumer.commit(stage.progress(await stage.take(consumer, 20)))
    async with stage.admin() as admin:
        await admin.delete_topics([stage.input.name])
        await stage.until_gone(admin, stage.input)
    ours = await stage.broker.admin()
    await ours.apply([stage.input])
    await ours.close()
    # More than before, so that the committed offset lies inside the new topic.
    await stage.publish(*(b"again %d" % number for number in range(30)))
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


async def test_a_join_of_its_own_whose_answer_was_lost_does_not_end_a_static_member(stage: Stage) -> None:
    """As after a coordinator was frozen: it then answers what nobody waits for any more, and gives out a new id."""
    await stage.publish(b"1")
    member = stage.member(instance_id="worker-1", session_timeout_s=2.0)
    consumer = await stage.broker.consumer(member)
    records = await stage.take(consumer, 1)
    told = consumer._membership._static.assignor.metadata(member.topics).encode()
    async with stage.admin() as admin:
        join = JoinGroupRequest(member.group, 2000, 10_000, "", "worker-1", "consumer", [("range", told)])
        answer = await admin._send_request(join, await admin.find_coordinator(member.group))
        assert answer.error_code == 0
    # It is thrown out, and comes back: the record comes again, in another ownership.
    again = await stage.take(consumer, 1)
    assert again[0].epoch > records[0].epoch
    await consumer.commit(stage.progress(again), stage.answers(again))
    assert await stage.answered() == [b"1"]
    await consumer.close()
