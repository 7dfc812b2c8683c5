"""Dead letters, looked at and sent again: what ``windhover dead list|show|redrive`` stands on.

A re-driven record goes to its original topic with its original key, value and headers, byte for byte. All ids in it are
the same, so whoever has handled it before drops it, and sending it twice changes nothing; that is also why no list of
what was re-driven is kept. A record that fails again becomes a new dead letter, at its new place in the topic.
"""

from __future__ import annotations

import logging
from collections.abc import AsyncIterable, AsyncIterator, Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import ClassVar
from uuid import UUID

from infra.broker.port import InRecord, OutRecord, Publisher, Reader, TopicPartition
from infra.broker.reading import records_between
from infra.errors import RecordError
from schemas.cloudevents import decode
from schemas.errors import EventError, EventVersionError
from schemas.events import DeadLetter

log = logging.getLogger(__name__)

_READ_RECORDS = 32
# What is looked for is there already or never: nobody waits for further records.
_READ_WAIT_S = 0.0
_BATCH_RECORDS = 100
_BATCH_BYTES = 4_000_000


class OriginalGoneError(RecordError):
    """A dead letter without its original, which no longer stands at its place in its topic either."""

    code: ClassVar[str] = "ORIGINAL_GONE"


@dataclass(frozen=True, slots=True)
class Filter:
    """Which dead letters: all that is given must hold."""

    reason: str | None = None
    device_id: str | None = None
    group: str | None = None
    since: datetime | None = None

    def takes(self, letter: DeadLetter) -> bool:
        """Whether ``letter`` is one of them."""
        return (
            self.reason in (None, letter.reason)
            and self.device_id in (None, letter.device_id)
            and self.group in (None, letter.group)
            and (self.since is None or letter.failed_at >= self.since)
        )


ALL = Filter()


async def list_dead(
    reader: Reader, topic: str, *, wanted: Filter = ALL, limit: int | None = None
) -> AsyncIterator[DeadLetter]:
    """The dead letters of ``topic``, oldest first, up to where it ends now; each id once.

    A record on the topic that is no dead letter is passed over with a warning. Raises BrokerUnavailableError.
    """
    seen: set[UUID] = set()
    found = 0
    if limit == 0:
        return
    async for record in _in_time_order(reader, topic):
        try:
            letter = decode(record.headers, record.value, DeadLetter)
        except (EventError, EventVersionError) as error:
            log.warning("%s/%d:%d is no dead letter: %s", topic, record.partition, record.offset, error)
            continue
        if letter.id in seen or not wanted.takes(letter):
            continue
        seen.add(letter.id)
        yield letter
        found += 1
        if found == limit:
            return


async def find(reader: Reader, topics: Sequence[str], id: UUID) -> DeadLetter | None:  # noqa: A002 (as everywhere)
    """The dead letter called ``id`` on one of ``topics``, or None."""
    for topic in topics:
        async for letter in list_dead(reader, topic):
            if letter.id == id:
                return letter
    return None


async def redrive(
    reader: Reader,
    publisher: Publisher,
    letters: AsyncIterable[DeadLetter],
    *,
    progress: Callable[[int], None] | None = None,
) -> int:
    """Send the originals of ``letters`` to their topics again, in order; return how many.

    ``progress`` is told the number sent so far, after each batch. Raises OriginalGoneError for a letter whose original
    was left out and has expired (those before it are sent), BrokerUnavailableError (some may be sent: start again).
    """
    sent = 0
    batch: list[OutRecord] = []
    size = 0

    async def send() -> None:
        nonlocal sent, size
        if batch:
            await publisher.publish(batch)
        sent += len(batch)
        size = 0
        batch.clear()
        if progress is not None:
            progress(sent)

    async for letter in letters:
        try:
            record = await original_record(reader, letter)
        except OriginalGoneError:
            await send()
            raise
        batch.append(record)
        size += len(record.value or b"")
        if len(batch) >= _BATCH_RECORDS or size >= _BATCH_BYTES:
            await send()
    await send()
    return sent


async def original_record(reader: Reader, letter: DeadLetter) -> OutRecord:
    """The record ``letter`` is about, as it was; read at its own place when the letter left it out.

    A record that came without a key gets its device's (or an empty one), because every record of ours has one.
    """
    original = letter.original
    value, headers = original.value, tuple(original.headers)
    if original.omitted:
        place = TopicPartition(original.topic, original.partition)
        records = await reader.read(place, original.offset, max_records=1, timeout_s=_READ_WAIT_S)
        if not records or records[0].offset != original.offset:
            raise OriginalGoneError(
                f"dead letter {letter.id}: its original was too large to keep in it, and {original.topic}/"
                f"{original.partition} no longer holds offset {original.offset}; it can't be sent again"
            )
        value, headers = records[0].value, records[0].headers
    key = original.key if original.key is not None else letter.device_id or ""
    return OutRecord(topic=original.topic, key=key, value=value, headers=headers)


async def _in_time_order(reader: Reader, topic: str) -> AsyncIterator[InRecord]:
    """All records of ``topic``, merged over its partitions by time."""
    heads: list[tuple[int, int, AsyncIterator[InRecord], InRecord]] = []
    for partition, (first, end) in sorted((await reader.bounds(topic)).items()):
        records = records_between(reader, TopicPartition(topic, partition), first, end, batch=_READ_RECORDS)
        head = await anext(records, None)
        if head is not None:
            heads.append((head.timestamp_ms, partition, records, head))
    while heads:
        heads.sort(key=lambda entry: entry[:2])
        _, partition, records, head = heads[0]
        yield head
        following = await anext(records, None)
        if following is None:
            heads.pop(0)
        else:
            heads[0] = (following.timestamp_ms, partition, records, following)
