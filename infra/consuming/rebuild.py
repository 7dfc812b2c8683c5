"""Sets the groups of a sink back to the oldest records of their topics, so that the sink writes everything again.

A group is set back by deleting what it has committed: the next process of the sink then begins at the start. That is
one step in the broker, so a group is either where it was or at the start, and no other group is touched.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from infra.broker.port import Admin, Broker
from infra.errors import GroupError
from infra.texts import counted


@dataclass(frozen=True, slots=True)
class GroupReset:
    """Describes one group of a sink that is rebuilt."""

    group: str
    topics: tuple[str, ...]
    """The topics of the sink; the group also reads ``redrive``"""
    records: int
    """How many records these topics hold now, all of which the sink writes again; on Kafka some may be marks of
    transactions"""
    members: int
    """How many processes of the sink are running"""
    has_read: bool
    """Whether the group has a place in its topics; False: it begins at the start anyway"""


async def plan_resets(broker: Broker, groups: Mapping[str, tuple[str, ...]]) -> list[GroupReset]:
    """Return what a rebuild would do with ``groups``, given with their topics; changes nothing.

    Raises BrokerUnavailableError, RefusedError, or TopicMismatchError for a topic that the broker does not have.
    """
    admin = await broker.admin()
    try:
        found = {state.name: state for state in await admin.groups()}
    finally:
        await admin.close()
    records = await _record_counts(broker, {topic for topics in groups.values() for topic in topics})
    return [
        GroupReset(
            group,
            topics,
            sum(records[topic] for topic in topics),
            members=found[group].members if group in found else 0,
            has_read=group in found,
        )
        for group, topics in groups.items()
    ]


async def reset_groups(admin: Admin, resets: Sequence[GroupReset]) -> None:
    """Set each group of ``resets`` back to the start; running it again changes nothing more.

    Raises GroupError, before anything is changed, when a group has members. When a process of the sink joins at the
    same moment, the broker refuses its group, and those before it are at the start already.
    """
    running = [one for one in resets if one.members]
    if running:
        named = " and ".join(f"{one.group} has {counted(one.members, 'member')}" for one in running)
        raise GroupError(
            f"{named}: stop all processes of the sink (a killed one counts until its session ends, after about ten "
            "seconds), then try again"
        )
    for one in resets:
        if one.has_read:
            await admin.forget_group(one.group)


async def _record_counts(broker: Broker, topics: set[str]) -> dict[str, int]:
    reader = await broker.reader()
    try:
        bounds = {topic: await reader.bounds(topic) for topic in topics}
    finally:
        await reader.close()
    return {topic: sum(end - first for first, end in found.values()) for topic, found in bounds.items()}
