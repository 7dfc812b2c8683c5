"""Answers to frames are found on both brokers: while they are followed, from before, and after interruptions."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from infra.broker.settings import BrokerSettings
from infra.deploy.kafka import KafkaServer
from ingest.answers import follower, partition
from ingest.answers.answers import Answers
from ingest.answers.partition import Answer
from schemas.events import DeadLetter, DetectionsMade
from schemas.topics import FRAMES_BACKFILL, FRAMES_JOBS
from standgale.testing.waiting import until
from tests.harnesses.answer_topics import WAIT_S, AnswerTopics, answered, frame_id, wait_for
from tests.harnesses.brokers import harness_of
from tests.servers.kafka import kafka_settings

pytestmark = pytest.mark.integration


@pytest.fixture
async def topics(broker_settings: BrokerSettings, tmp_path: Path) -> AsyncIterator[AnswerTopics]:
    async with opened(broker_settings, tmp_path) as topics:
        yield topics


@asynccontextmanager
async def opened(settings: BrokerSettings, folder: Path) -> AsyncIterator[AnswerTopics]:
    harness = harness_of(settings, folder)
    specs = AnswerTopics.specs(harness).values()
    if settings.kind == "kafka":
        # Other tests use these names on this server too.
        await harness.remove(*specs)
    yield AnswerTopics(harness, await harness.open(*specs))
    if settings.kind == "kafka":
        await harness.remove(*specs)
    await harness.close()


async def begin(answers: Answers, number: int) -> asyncio.Task[Answer | None]:
    """Begin to wait for a frame, and return when its partition is followed."""
    waiting = asyncio.create_task(wait_for(answers, number))
    with answers.watch("drone-1") as followed:
        await followed.wait_until_followed(WAIT_S)
        await until(lambda: frame_id(number) in followed._waiting)
    return waiting


async def test_detections_or_dead_letter_end_the_wait_for_their_frame_alone(topics: AnswerTopics) -> None:
    async with topics.answers() as answers:
        detected, dead, none = [await begin(answers, number) for number in (1, 2, 3)]
        await topics.detect_for_job(1)
        await topics.give_up(1, topic=FRAMES_JOBS)
        await topics.detect(1, 4)
        await topics.give_up(2, topic=FRAMES_BACKFILL)
        found, letter = await detected, await dead
        assert isinstance(found, DetectionsMade)
        assert (answered(found), found.job_id) == (answered(await wait_for(answers, 1)), None)
        assert isinstance(letter, DeadLetter)
        assert (answered(letter), letter.reason) == (answered(letter), "IMAGE_CORRUPT")
        assert str(letter.frame_id) == frame_id(2)
        assert not none.done()
        none.cancel()


async def test_several_gateways_wait_for_the_same_frame(topics: AnswerTopics) -> None:
    async with topics.answers() as one, topics.answers() as other:
        waiting = [await begin(answers, 1) for answers in (one, other, one)]
        await topics.detect(1)
        assert [str(answered(await each)) for each in waiting] == [frame_id(1)] * 3


async def test_partition_is_left_some_time_after_the_last_wait(topics: AnswerTopics) -> None:
    async with topics.answers(idle_s=0.2) as answers:
        waiting = await begin(answers, 1)
        await asyncio.sleep(0.4)
        assert answers.followed == 1
        await topics.detect(1)
        await waiting
        await until(lambda: answers.followed == 0)
        # Of what came while nobody waited, too.
        await topics.detect(2)
        assert str(answered(await wait_for(answers, 2))) == frame_id(2)


async def test_frame_detected_before_gets_its_newest_detections(topics: AnswerTopics) -> None:
    await topics.detect(1, version="1.0")
    await topics.detect(*range(2, 40), version="1.0")
    await topics.detect(1, version="2.0")
    async with topics.answers() as answers:
        found = await wait_for(answers, 1)
        assert isinstance(found, DetectionsMade)
        assert found.model.version == "2.0"
        # The end of the partition was searched for the first of them; for the second its place is known.
        began = asyncio.get_running_loop().time()
        assert str(answered(await wait_for(answers, 2))) == frame_id(2)
        assert asyncio.get_running_loop().time() - began < partition._LOOK_BACK_AFTER_S + 2.0


async def test_frame_beyond_the_tail_is_not_found_and_leaves_nothing_behind(topics: AnswerTopics) -> None:
    await topics.detect(*range(1, 30))
    async with topics.answers(tail=10) as answers:
        assert await wait_for(answers, 1, wait_s=1.5) is None
        assert str(answered(await wait_for(answers, 25))) == frame_id(25)
        with answers.watch("drone-1") as followed:
            assert followed._waiting == {}
            assert len(followed._offsets) == 10


async def test_detections_in_a_topic_created_again_are_found(topics: AnswerTopics) -> None:
    specs = AnswerTopics.specs(topics.harness).values()
    await topics.detect(*range(20, 30))
    async with topics.answers() as answers:
        waiting = await begin(answers, 1)
        await topics.harness.remove(*specs)
        with answers.watch("drone-1") as followed:
            await until(lambda: followed.problem is not None)
        again = AnswerTopics(topics.harness, await topics.harness.open(*specs))
        # Less than the former one had, and more.
        await again.detect(1)
        assert str(answered(await asyncio.wait_for(waiting, WAIT_S))) == frame_id(1)
        await again.detect(*range(40, 60))
        assert await wait_for(answers, 25, wait_s=1.5) is None
        assert str(answered(await wait_for(answers, 50))) == frame_id(50)
        with answers.watch("drone-1") as followed:
            assert followed.problem is None


async def test_frozen_broker_delays_the_detections_and_is_named(
    kafka_server: KafkaServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(follower, "HANG_S", 2.0)
    async with opened(kafka_settings(kafka_server), tmp_path) as topics, topics.answers() as answers:
        waiting = await begin(answers, 1)
        kafka_server.freeze()
        try:
            with answers.watch("drone-1") as followed:
                await until(lambda: followed.problem == "BROKER_UNAVAILABLE")
            # Nothing of the partition is known to these, which are published all the same.
            late = asyncio.create_task(wait_for(answers, 2))
        finally:
            kafka_server.thaw()
        await topics.detect(1, 2)
        assert str(answered(await asyncio.wait_for(waiting, WAIT_S))) == frame_id(1)
        assert str(answered(await asyncio.wait_for(late, WAIT_S))) == frame_id(2)
