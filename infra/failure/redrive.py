"""Sends the originals of dead letters again, each only to the consumer group that failed on it.

A sink's record goes to the topic ``redrive``, which every sink reads in addition to its own topics: headers name the
group it is for, and all other groups skip it. A frame goes to its own topic, which only detectors read. The topic
``redrive`` keeps the id of each dead letter that was sent again, so that a second run sends nothing twice.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import ClassVar
from uuid import UUID

from infra.broker.port import OutRecord, Publisher, Reader, TopicPartition
from infra.broker.reading import read_between
from infra.errors import RecordError
from schemas.cloudevents import Headers, header
from schemas.errors import EventError
from schemas.events import DeadLetter

logger = logging.getLogger(__name__)

SINK_GROUPS = "sink."
"""The first part of the names of sinks' consumer groups."""
GROUP_HEADER = "standgale-redrive-group"
"""The consumer group a re-driven record is for"""
LETTER_HEADER = "standgale-redrive-of"
"""The id of the dead letter that was sent again"""
TRY_HEADER = "standgale-redrive-try"
"""How many times the record was sent again, this time included"""
ORIGIN_HEADER = "standgale-redrive-from"
"""The position of the record when it failed: topic/partition/offset"""
_OURS = (GROUP_HEADER, LETTER_HEADER, TRY_HEADER, ORIGIN_HEADER)

_READ_WAIT_S = 0.0
_BATCH_RECORDS = 100
_BATCH_BYTES = 4_000_000


class OriginalGoneError(RecordError):
    """The original is neither in the dead letter nor in its topic any more."""

    code: ClassVar[str] = "ORIGINAL_GONE"


@dataclass(frozen=True, slots=True)
class RedriveRules:
    """Says how dead letters are sent again."""

    max_tries: int = 3
    """A record that was sent again so many times is not sent any more"""
    rate: float | None = None
    """At most so many records per second; None: no limit"""
    dry_run: bool = False
    """Only count the records, send nothing"""
    again: bool = False
    """Send also letters that were sent again before"""


@dataclass(slots=True)
class RedriveResult:
    """Counts the dead letters of one run by their result."""

    sent: int = 0
    """Sent again (or, in a dry run, to be sent)"""
    already: int = 0
    """Not sent, because they were sent again before"""
    exhausted: int = 0
    """Not sent, because their record was sent again ``max_tries`` times"""
    gone: int = 0
    """Not sent, because neither the letter nor the topic has the original"""
    lost: int = 0
    """Not sent, because retention deleted the records"""


def target_group_of(headers: Headers) -> str | None:
    """Return the consumer group that a record of the topic ``redrive`` is for; None when its headers name none."""
    try:
        return header(headers, GROUP_HEADER)
    except EventError:
        return None


def letter_of(headers: Headers) -> tuple[UUID, int] | None:
    """Return the id of the dead letter that a record was sent again for, and its number of tries; None: no such id."""
    try:
        letter = header(headers, LETTER_HEADER)
        return None if letter is None else (UUID(letter), _tries(headers))
    except (EventError, ValueError):
        return None


async def original_record(reader: Reader, letter: DeadLetter) -> OutRecord:
    """Return the original record of ``letter``; it is read from its topic when the letter does not contain it.

    A record without a key gets its device's id as the key (or an empty one), because an OutRecord has a key. Raises
    OriginalGoneError.
    """
    original = letter.original
    value, headers = original.value, tuple(original.headers)
    if original.omitted:
        place = TopicPartition(original.topic, original.partition)
        first, end = (await reader.bounds(place.topic)).get(place.partition, (0, 0))
        records = (
            await reader.read(place, original.offset, max_records=1, timeout_s=_READ_WAIT_S)
            if first <= original.offset < end
            else []
        )
        # After the topic was deleted and created again, a different record has this offset.
        if not records or (records[0].offset, records[0].timestamp_ms, records[0].key) != (
            original.offset,
            original.timestamp_ms,
            original.key,
        ):
            raise OriginalGoneError(
                f"dead letter {letter.id}: its original was too large to keep in it, and {original.topic}/"
                f"{original.partition} no longer has offset {original.offset}; it cannot be sent again"
            )
        value, headers = records[0].value, records[0].headers
    key = original.key if original.key is not None else letter.device_id or ""
    return OutRecord(topic=original.topic, key=key, value=value, headers=headers)


@dataclass(slots=True)
class Redrive:
    """Sends the letters of one run of :func:`infra.failure.dead_letters.redrive`: ``add`` each, then ``send``."""

    reader: Reader
    publisher: Publisher
    rules: RedriveRules
    topic: str
    progress: Callable[[int], None] | None
    result: RedriveResult = field(default_factory=RedriveResult)
    _records: list[OutRecord] = field(default_factory=list)
    _marks: list[OutRecord] = field(default_factory=list)
    _next_at: float = 0.0

    async def add(self, letter: DeadLetter) -> None:
        """Add the original of ``letter`` to the next batch, unless it is deleted or was sent too many times."""
        try:
            original = await original_record(self.reader, letter)
        except OriginalGoneError as error:
            logger.warning("%s", error)
            self.result.gone += 1
            return
        tries = _tries(original.headers) + 1
        if tries > self.rules.max_tries:
            self.result.exhausted += 1
            return
        if self.rules.dry_run:
            self.result.sent += 1
            return
        self._add_to_batch(letter, original, tries)
        size = sum(len(record.value or b"") for record in self._records)
        if self.rules.rate is not None or len(self._records) >= _BATCH_RECORDS or size >= _BATCH_BYTES:
            await self.send()

    def _add_to_batch(self, letter: DeadLetter, original: OutRecord, tries: int) -> None:
        place = letter.original
        ours = (
            (GROUP_HEADER, letter.group.encode()),
            (LETTER_HEADER, str(letter.id).encode()),
            (TRY_HEADER, str(tries).encode()),
            (ORIGIN_HEADER, f"{place.topic}/{place.partition}/{place.offset}".encode()),
        )
        headers = (*((name, value) for name, value in original.headers if name not in _OURS), *ours)
        if letter.group.startswith(SINK_GROUPS):
            self._records.append(OutRecord(self.topic, original.key, original.value, headers))
        else:
            self._records.append(OutRecord(original.topic, original.key, original.value, headers))
            self._marks.append(OutRecord(self.topic, original.key, None, ours))

    async def send(self) -> None:
        """Publish the batch, then its marks: a frame sent twice does no harm, one with a mark only would be lost."""
        if not self._records:
            return
        await self._wait_for_turn()
        await self.publisher.publish(self._records)
        if self._marks:
            await self.publisher.publish(self._marks)
        self.result.sent += len(self._records)
        self._records.clear()
        self._marks.clear()
        if self.progress is not None:
            self.progress(self.result.sent)

    async def _wait_for_turn(self) -> None:
        if self.rules.rate is None:
            return
        now = time.monotonic()
        if self._next_at > now:
            await asyncio.sleep(self._next_at - now)
        self._next_at = max(now, self._next_at) + len(self._records) / self.rules.rate


async def read_sent_ids(reader: Reader, topic: str) -> set[UUID]:
    """Read from ``topic`` the ids of all dead letters that were sent again."""
    found: set[UUID] = set()
    for partition, (first, end) in (await reader.bounds(topic)).items():
        async for record in read_between(reader, TopicPartition(topic, partition), first, end):
            letter = letter_of(record.headers)
            if letter is None:
                logger.warning("%s/%d:%d is not a re-driven record and is skipped", topic, partition, record.offset)
            else:
                found.add(letter[0])
    return found


def _tries(headers: Headers) -> int:
    """Return how many times a record with ``headers`` was sent again."""
    try:
        return int(header(headers, TRY_HEADER) or 0)
    except (EventError, ValueError):
        return 0
