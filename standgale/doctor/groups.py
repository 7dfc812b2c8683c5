"""Checks the members and the lag of consumer groups, and whether retention will delete records before they are read."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence

from infra.broker.port import GroupState
from schemas.topics import TopicSpec
from standgale.doctor.access import open_existing_broker
from standgale.doctor.port import Finding, ok, problem, warning
from standgale.settings import Settings

EXPECTED = ("detector", "sink.postgres")
# Ages of the oldest unread record, as shares of the topic's retention, that give a warning and a problem.
_WARN_AT = 0.5
_ALARM_AT = 0.8


class GroupsCheck:
    """Asks the broker about every group there is."""

    subject = "groups"

    def __init__(
        self, settings: Settings, topics: dict[str, TopicSpec], *, clock: Callable[[], float] = time.time
    ) -> None:
        self._settings = settings
        self._topics = topics
        self._clock = clock

    async def look(self) -> Sequence[Finding]:
        """See :class:`.port.Check`."""
        async with open_existing_broker(self._settings, self._topics) as broker:
            admin = await broker.admin()
            try:
                groups = await admin.groups()
            finally:
                await admin.close()
        return list(judge(groups, self._topics, self._clock()))


def judge(groups: Sequence[GroupState], topics: Mapping[str, TopicSpec], now_s: float) -> Iterator[Finding]:
    """Judge ``groups`` at the time ``now_s``."""
    ours = [one for one in groups if one.name in EXPECTED or not topics.keys().isdisjoint(one.topics)]
    for group in sorted(ours, key=lambda one: one.name):
        yield from _judge(group, topics, now_s)
    for name in EXPECTED:
        if name not in {group.name for group in groups}:
            yield warning(f"{name} has never committed", f"start it, if frames were sent: standgale {_verb(name)}")


def _verb(group: str) -> str:
    return group.replace("sink.", "sink ")


def _judge(group: GroupState, topics: Mapping[str, TopicSpec], now_s: float) -> Iterator[Finding]:
    members = "1 member" if group.members == 1 else f"{group.members} members"
    about = f"{group.name}: {members}, {group.lag} records behind on {', '.join(group.topics)}"
    retentions = [topics[name].retention_s for name in group.topics if name in topics]
    if group.lag and group.oldest_unread_ms is not None and retentions:
        age_s, retention_s = max(0.0, now_s - group.oldest_unread_ms / 1000), min(retentions)
        about += f"; the oldest is {_hours(age_s)} old, they are kept {_hours(retention_s)}"
        if age_s > _ALARM_AT * retention_s:
            yield problem(
                about,
                "records will be deleted unread: start more members now, or raise retention_s in topics.yaml "
                "and run standgale topics apply",
            )
            return
        if age_s > _WARN_AT * retention_s:
            yield warning(about, "it reads too slowly or not at all; see its /health/ready and log")
            return
    if group.lag and not group.members:
        start = f"start it (standgale {_verb(group.name)})" if group.name in EXPECTED else "start its members"
        yield warning(about, f"no member reads: {start}, or standgale topics forget-group {group.name}")
        return
    yield ok(about)


def _hours(seconds: float) -> str:
    return f"{seconds / 3600:.1f} h"
