"""Lists and finds dead letters and sends them again, for ``standgale dead list|show|redrive``."""

from __future__ import annotations

import logging
from collections.abc import AsyncIterable, AsyncIterator, Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from infra.broker.port import InRecord, Publisher, Reader, TopicPartition
from infra.broker.reading import read_between
from infra.failure.redrive import Redrive, RedriveResult, RedriveRules, read_sent_ids
from schemas.cloudevents import decode
from schemas.errors import EventError, EventVersionError
from schemas.events import DeadLetter
from schemas.topics import REDRIVE

logger = logging.getLogger(__name__)

_READ_RECORDS = 32


@dataclass(frozen=True, slots=True)
class DeadLetterFilter:
    """Selects dead letters: those that fit all fields which are not None."""

    reason: str | None = None
    device_id: str | None = None
    group: str | None = None
    since: datetime | None = None

    def takes(self, letter: DeadLetter) -> bool:
        """Whether ``letter`` is selected."""
        return (
            self.reason in (None, letter.reason)
            and self.device_id in (None, letter.device_id)
            and self.group in (None, letter.group)
            and (self.since is None or letter.failed_at >= self.since)
        )


ALL = DeadLetterFilter()


async def list_dead(
    reader: Reader, topic: str, *, wanted: DeadLetterFilter = ALL, limit: int | None = None
) -> AsyncIterator[DeadLetter]:
    """Yield the dead letters of ``topic``, oldest first, up to its present end; each id once.

    A record of the topic that is not a dead letter is skipped with a warning. Raises BrokerUnavailableError.
    """
    seen: set[UUID] = set()
    found = 0
    if limit == 0:
        return
    async for record in _in_time_order(reader, topic):
        try:
            letter = decode(record.headers, record.value, DeadLetter)
        except (EventError, EventVersionError) as error:
            place = f"{topic}/{record.partition}:{record.offset}"
            logger.warning("skipped %s, which is not a dead letter: %s", place, error)
            continue
        if letter.id in seen or not wanted.takes(letter):
            continue
        seen.add(letter.id)
        yield letter
        found += 1
        if found == limit:
            return


async def find_dead_letter(reader: Reader, topics: Sequence[str], id: UUID) -> DeadLetter | None:  # noqa: A002 (as everywhere)
    """Return the dead letter with ``id`` from one of ``topics``, or None."""
    for topic in topics:
        async for letter in list_dead(reader, topic):
            if letter.id == id:
                return letter
    return None


async def redrive(
    reader: Reader,
    publisher: Publisher,
    letters: AsyncIterable[DeadLetter],
    rules: RedriveRules | None = None,
    *,
    topic: str = REDRIVE,
    progress: Callable[[int], None] | None = None,
) -> RedriveResult:
    """Send the originals of ``letters`` again, in order; ``progress`` is called with the number sent so far.

    Raises BrokerUnavailableError, when some may be sent already; another run sends the rest.
    """
    run = Redrive(reader, publisher, rules or RedriveRules(), topic, progress)
    known = await read_sent_ids(reader, topic)
    async for letter in letters:
        if letter.lost is not None:
            run.result.lost += 1
        elif letter.id in known and not run.rules.again:
            run.result.already += 1
        else:
            known.add(letter.id)
            await run.add(letter)
    await run.send()
    return run.result


async def _in_time_order(reader: Reader, topic: str) -> AsyncIterator[InRecord]:
    """Yield all records of ``topic``, merged over its partitions by time."""
    heads: list[tuple[int, int, AsyncIterator[InRecord], InRecord]] = []
    for partition, (first, end) in sorted((await reader.bounds(topic)).items()):
        records = read_between(reader, TopicPartition(topic, partition), first, end, batch=_READ_RECORDS)
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
