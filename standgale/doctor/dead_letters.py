"""Checks how many dead letters there are, and counts the reasons of the newest ones."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from infra.broker.port import Reader, TopicPartition
from infra.broker.reading import read_between
from schemas.cloudevents import decode
from schemas.errors import EventError, EventVersionError
from schemas.events import DeadLetter
from schemas.topics import FRAMES_DEAD, SINKS_DEAD, TopicSpec
from standgale.doctor.access import open_existing_broker
from standgale.doctor.port import Finding, ok, problem, warning
from standgale.settings import Settings

_LOOKED_AT = 20
"""How many records of each partition are read, from its end; a dead letter may be as large as its topic allows."""


class DeadLettersCheck:
    """Reads the ends of both topics of dead letters."""

    subject = "dead letters"

    def __init__(self, settings: Settings, topics: dict[str, TopicSpec]) -> None:
        self._settings = settings
        self._topics = topics

    async def look(self) -> Sequence[Finding]:
        """See :class:`.port.Check`."""
        async with open_existing_broker(self._settings, self._topics) as broker:
            reader = await broker.reader()
            try:
                return [await _judge(reader, topic) for topic in (FRAMES_DEAD, SINKS_DEAD)]
            finally:
                await reader.close()


async def _judge(reader: Reader, topic: str) -> Finding:
    letters: list[DeadLetter] = []
    most = 0
    for partition, (first, end) in (await reader.bounds(topic)).items():
        most += end - first
        source = TopicPartition(topic, partition)
        async for record in read_between(reader, source, max(first, end - _LOOKED_AT), end, batch=_LOOKED_AT):
            try:
                letters.append(decode(record.headers, record.value, DeadLetter))
            except (EventError, EventVersionError):
                continue
    if not letters:
        return ok(f"{topic}: none")
    newest = max(letters, key=lambda letter: letter.failed_at)
    reasons = ", ".join(f"{reason} ({count})" for reason, count in Counter(one.reason for one in letters).most_common())
    what = (
        f"{topic}: up to {most}; reasons of the last {len(letters)}: {reasons}; the newest is of "
        f"{newest.failed_at:%Y-%m-%d %H:%M} UTC, group {newest.group}: {newest.message[:200]}"
    )
    if any(letter.lost is not None for letter in letters):
        return problem(
            what,
            "retention deleted records before they were read: raise retention_s, or make the slow group faster; "
            "see standgale dead list",
        )
    return warning(what, "standgale dead list; remove the cause, then standgale dead redrive")
