"""The ``models`` topic: what was activated in each lane, and which models each worker says it has."""

from __future__ import annotations

import logging
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from uuid import uuid4

from infra.broker.event_records import event_record
from infra.broker.port import InRecord, OutRecord, Reader, TopicPartition
from infra.broker.reading import read_between
from infra.errors import TopicMismatchError
from schemas.cloudevents import decode, header
from schemas.errors import EventError, EventVersionError
from schemas.events import ModelActivated, WorkerAvailability
from schemas.topics import MODELS

logger = logging.getLogger(__name__)

SOURCE = TopicPartition(MODELS, 0)
"""All there is: the topic has one partition (:func:`schemas.topics.load_topics` sees to it)."""
_READ_RECORDS = 500


@dataclass(slots=True)
class ModelsState:
    """What this ``incarnation`` of the topic says up to ``offset``: activations by lane, reports by lane/worker."""

    activations: dict[str, ModelActivated] = field(default_factory=dict)
    workers: dict[str, WorkerAvailability] = field(default_factory=dict)
    offset: int = 0
    incarnation: str = ""

    def apply_record(self, record: InRecord) -> None:
        """Learn from the next record. One that is no event is told and left: it must not stop a fleet."""
        self.offset = record.offset + 1
        key = record.key or ""
        if record.value is None:
            self.workers.pop(key, None)
            self.activations.pop(key, None)
            return
        try:
            if header(record.headers, "ce_type") == ModelActivated.event_type():
                activation = decode(record.headers, record.value, ModelActivated)
                self.activations[activation.lane] = activation
            else:
                self.workers[key] = decode(record.headers, record.value, WorkerAvailability)
        except (EventError, EventVersionError) as error:
            logger.warning("a record of topic %s is left out: %s", MODELS, error, extra={"offset": record.offset})

    def live_workers(self, lane: str, now: datetime) -> list[WorkerAvailability]:
        """The reports of those in ``lane`` that are not gone at ``now``, by name."""
        found = [report for report in self.workers.values() if report.lane == lane and is_report_fresh(report, now)]
        return sorted(found, key=lambda report: report.worker)


def is_report_fresh(report: WorkerAvailability, now: datetime) -> bool:
    """Whether whoever wrote ``report`` may be expected to run still."""
    return now - report.reported_at <= timedelta(seconds=report.valid_s)


async def read_models(reader: Reader) -> ModelsState:
    """What the topic says now. Raises BrokerUnavailableError, or TopicMismatchError when there is no such topic."""
    state = ModelsState(incarnation=(await reader.state(MODELS)).incarnation)
    first, end = (await reader.bounds(MODELS))[SOURCE.partition]
    async for record in read_between(reader, SOURCE, first, end, batch=_READ_RECORDS):
        state.apply_record(record)
    # The last records before the end may be compacted away, or marks of transactions.
    state.offset = max(state.offset, end)
    return state


async def read_new_records(reader: Reader, state: ModelsState, wait_s: float) -> None:
    """Take in what is new in the topic; waits for it at most ``wait_s``. Raises TransientError.

    A topic that was made again is read from its start. What the former one said holds until the new one says otherwise.
    """
    try:
        records = await reader.read(SOURCE, state.offset, max_records=_READ_RECORDS, timeout_s=wait_s)
    except TopicMismatchError:
        incarnation = (await reader.state(MODELS)).incarnation
        first, end = (await reader.bounds(MODELS))[SOURCE.partition]
        if state.offset <= end and state.incarnation == incarnation:
            raise
        state.incarnation = incarnation
        logger.warning("topic %s was made again; it is read from its start", MODELS)
        state.offset = first
        return
    for record in records:
        state.apply_record(record)


def activation_record(activation: ModelActivated) -> OutRecord:
    """``activation`` as a record; the newest one of a lane is what counts."""
    return event_record(
        MODELS,
        activation,
        id=activation.id,
        source="/standgale/model",
        subject=activation.lane,
        time=activation.activated_at,
        key=activation.lane,
    )


def availability_record(report: WorkerAvailability) -> OutRecord:
    """``report`` as a record, in place of the worker's former one."""
    return event_record(
        MODELS,
        report,
        id=uuid4(),
        source="/standgale/detector",
        subject=report.worker,
        time=report.reported_at,
        key=availability_key(report.lane, report.worker),
    )


def deletion_record(key: str) -> OutRecord:
    """The record that takes the reports with ``key`` away."""
    return OutRecord(MODELS, key, None)


def availability_key(lane: str, worker: str) -> str:
    """The key of a worker's reports."""
    return f"{lane}/{worker}"
