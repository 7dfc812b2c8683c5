"""Gives tests the topics with the answers to frames, on each broker, and publishes answers as detectors do."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from uuid import UUID, uuid4

from infra.broker.port import Broker, InRecord, OutRecord
from infra.errors import ImageCorruptError, StandgaleError
from infra.failure.dead_letter_records import dead_letter
from ingest.answers.answers import Answers
from ingest.answers.partition import Answer
from ingest.settings import GatewaySettings
from schemas.cloudevents import JOB_HEADER
from schemas.topics import DETECTIONS, FRAMES_DEAD, FRAMES_LIVE, TopicSpec
from standgale.testing.broker import BrokerHarness
from standgale.testing.factories import detections_made, frame_captured, out_record

PARTITIONS = 2
WAIT_S = 30.0


class AnswerTopics:
    """Publishes answers to the frames of ``standgale.testing.factories``, which differ by number."""

    def __init__(self, harness: BrokerHarness, broker: Broker) -> None:
        self.harness = harness
        self.broker = broker

    @staticmethod
    def specs(harness: BrokerHarness) -> dict[str, TopicSpec]:
        """Return the declarations of both topics."""
        spec = harness.topic(partitions=PARTITIONS)
        return {name: spec.model_copy(update={"name": name}) for name in (DETECTIONS, FRAMES_DEAD)}

    @asynccontextmanager
    async def answers(self, *, idle_s: float = 30.0, tail: int = 100) -> AsyncIterator[Answers]:
        """Yield answers of these topics."""
        settings = GatewaySettings(answer_tail=tail)
        answers = Answers(self.broker.reader, self.specs(self.harness), settings, idle_s=idle_s)
        try:
            yield answers
        finally:
            await answers.close()

    async def publish(self, *records: OutRecord) -> None:
        """Publish records on the broker as it is now."""
        publisher = await self.broker.publisher()
        await publisher.publish(records)
        await publisher.close()

    async def detect(self, *numbers: int, version: str = "1.0") -> None:
        """Publish the detections of frames."""
        await self.publish(*(out_record(detections_made(number, version=version)) for number in numbers))

    async def detect_for_job(self, number: int) -> None:
        """Publish the detections of a frame that belongs to a job."""
        record = out_record(detections_made(number, version="job", job_id=uuid4()))
        await self.publish(replace(record, headers=(*record.headers, (JOB_HEADER, b"job"))))

    async def give_up(self, number: int, *, topic: str = FRAMES_LIVE, error: StandgaleError | None = None) -> None:
        """Publish the dead letter of a frame."""
        record = out_record(frame_captured(number), topic)
        original = InRecord(topic, 0, 7, 1, record.key, record.value, record.headers)
        error = error or ImageCorruptError("the JPEG ends early")
        await self.publish(dead_letter(original, group="detectors", error=error, attempts=1, topic=FRAMES_DEAD))


def frame_id(number: int) -> str:
    """Return the id of a frame."""
    return str(frame_captured(number).frame_id)


async def wait_for(answers: Answers, number: int, wait_s: float = WAIT_S) -> Answer | None:
    """Wait for the answer to a frame, as a request does that has published it already."""
    with answers.watch("drone-1") as partition:
        await partition.wait_until_followed(WAIT_S)
        waiting = partition.expect(frame_id(number), "drone-1")
        return await waiting.answer(asyncio.get_running_loop().time() + wait_s)


def answered(answer: Answer | None) -> UUID | None:
    """Return the frame that ``answer`` is for."""
    return None if answer is None else answer.frame_id
