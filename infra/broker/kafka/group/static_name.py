"""Marks the present holder of a static member's name, and detects that another process has taken the name."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import Callable, Iterable

from aiokafka.coordinator.assignors.range import RangePartitionAssignor
from aiokafka.coordinator.protocol import ConsumerProtocolMemberMetadata

from infra.broker.kafka.connection.link import pauses
from infra.broker.kafka.group.assignment import assign_numbers
from infra.broker.kafka.queries.cluster_queries import ClusterQueries
from infra.broker.port import GroupSpec
from infra.errors import SettingsError, TransientError


class NamedAssignor:
    """Assigns by :func:`assign_numbers`, and sends ``member_note`` to the group with this member's topics."""

    name = RangePartitionAssignor.name
    version = RangePartitionAssignor.version
    assign = staticmethod(assign_numbers)
    on_assignment = staticmethod(RangePartitionAssignor.on_assignment)

    def __init__(self, member_note: bytes) -> None:
        self.member_note = member_note

    def metadata(self, topics: Iterable[str]) -> ConsumerProtocolMemberMetadata:
        """Return what this member sends when it joins."""
        return ConsumerProtocolMemberMetadata(self.version, list(topics), self.member_note)


class StaticName:
    """Distinguishes this process from another one with the same ``instance_id``.

    Kafka does not report why it no longer knows a static member: its session may have ended, a frozen coordinator may
    have responded to a join that no client waited for any more, or another process may have joined with the name. Only
    the note that the present holder of the name sent when it joined distinguishes these cases.
    """

    def __init__(self, queries: ClusterQueries, spec: GroupSpec) -> None:
        self._queries = queries
        self._spec = spec
        self._note = uuid.uuid4().bytes
        self._ids: set[str] = set()
        self._renewals = 0
        self.assignor = NamedAssignor(self._note)

    def add_member_id(self, member_id: str) -> None:
        """Store an id that Kafka gave this process."""
        self._ids.add(member_id)

    def renew(self) -> None:
        """Send another note from now on, so that Kafka divides the partitions anew when this member joins.

        It gives a static member that joins with the same note the partitions that it had.
        """
        self._renewals += 1
        self.assignor.member_note = self._note + self._renewals.to_bytes(4, "big")

    async def find_successor(self, report: Callable[[TransientError], None]) -> SettingsError | None:
        """Return the error for a name that another process has taken over; None when none has.

        Asks until Kafka responds, and calls ``report`` with the errors until then.
        """
        name, group = self._spec.instance_id, self._spec.group
        if name is None:
            return None
        for pause in pauses():
            try:
                holder = await self._queries.static_member(group, name)
            except TransientError as error:
                report(error)
            else:
                if holder is None or holder.member_id in self._ids:
                    return None
                if (note := holder.member_note) is not None and note.startswith(self._note):
                    return None
                if note is not None:
                    break
            await asyncio.sleep(pause)
        return SettingsError(
            f"group {group}: another process has joined as instance_id {name!r} and took this one's place; give each "
            "process a different instance_id, or end this one"
        )
