"""Reads and writes the ``models`` topic: each roll-out lane's activation, and each worker's report of its models."""

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
from schemas.model_events import ModelActivated, WorkerAvailability
from schemas.topics import MODELS

logger = logging.getLogger(__name__)

SOURCE = TopicPartition(MODELS, 0)
"""The topic's only partition (:func:`schemas.topics.load_topics` checks that there is one)."""
_READ_RECORDS = 500


@dataclass(slots=True)
class ModelsState:
    """Holds what the topic contains up to ``offset``."""

    activations: dict[str, ModelActivated] = field(default_factory=dict)
    """The newest activation of each roll-out lane."""
    workers: dict[str, WorkerAvailability] = field(default_factory=dict)
    """The newest report of each worker, by lane/worker."""
    offset: int = 0
    incarnation: str = ""
    """Changes when the topic is deleted and created again."""

    def apply_record(self, record: InRecord) -> None:
        """Add the next record. One that is no event is logged and skipped: it must not stop all workers."""
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
            logger.warning("a record of topic %s is skipped: %s", MODELS, error, extra={"offset": record.offset})

    def live_workers(self, lane: str, now: datetime) -> list[WorkerAvailability]:
        """Return the reports of the workers of ``lane`` that are live at ``now``, sorted by name."""
        found = [report for report in self.workers.values() if report.lane == lane and is_report_fresh(report, now)]
        return sorted(found, key=lambda report: report.worker)


def is_report_fresh(report: WorkerAvailability, now: datetime) -> bool:
    """Return whether the worker of ``report`` is still expected to run at ``now``."""
    return now - report.reported_at <= timedelta(seconds=report.valid_s)


async def read_models(reader: Reader) -> ModelsState:
    """Read the whole topic. Raises BrokerUnavailableError, or TopicMismatchError when there is no such topic."""
    state = ModelsState(incarnation=(await reader.state(MODELS)).incarnation)
    first, end = (await reader.bounds(MODELS))[SOURCE.partition]
    async for record in read_between(reader, SOURCE, first, end, batch=_READ_RECORDS):
        state.apply_record(record)
    # The last records before the end may be compacted away, or be marks of transactions.
    state.offset = max(state.offset, end)
    return state


async def read_new_records(reader: Reader, state: ModelsState, wait_s: float) -> None:
    """Add the new records of the topic to ``state``; wait for them at most ``wait_s``. Raises TransientError.

    A topic that was created again is read from its start. The state of the former topic is kept until then.
    """
    try:
        records = await reader.read(SOURCE, state.offset, max_records=_READ_RECORDS, timeout_s=wait_s)
    except TopicMismatchError:
        incarnation = (await reader.state(MODELS)).incarnation
        first, end = (await reader.bounds(MODELS))[SOURCE.partition]
        if state.offset <= end and state.incarnation == incarnation:
            raise
        state.incarnation = incarnation
        logger.warning("topic %s was created again; it is read from its start", MODELS)
        state.offset = first
        return
    for record in records:
        state.apply_record(record)


def activation_record(activation: ModelActivated) -> OutRecord:
    """Return ``activation`` as a record; only the newest record of a roll-out lane counts."""
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
    """Return ``report`` as a record that replaces the worker's former report."""
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
    """Return the record that deletes the reports with ``key``."""
    return OutRecord(MODELS, key, None)


def availability_key(lane: str, worker: str) -> str:
    """Return the key of a worker's reports."""
    return f"{lane}/{worker}"
