"""The name of a static member: says which process goes by it, and finds out when another one has taken it."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import Callable, Iterable

from aiokafka.coordinator.assignors.range import RangePartitionAssignor
from aiokafka.coordinator.protocol import ConsumerProtocolMemberMetadata

from infra.broker.kafka.connection.link import pauses
from infra.broker.kafka.queries.offsets import Offsets
from infra.broker.port import GroupSpec
from infra.errors import SettingsError, TransientError


class NamedAssignor:
    """aiokafka's range assignor, which sends ``told`` to the group beside the topics of this member."""

    name = RangePartitionAssignor.name
    version = RangePartitionAssignor.version
    assign = staticmethod(RangePartitionAssignor.assign)
    on_assignment = staticmethod(RangePartitionAssignor.on_assignment)

    def __init__(self, told: bytes) -> None:
        self._told = told

    def metadata(self, topics: Iterable[str]) -> ConsumerProtocolMemberMetadata:
        """What this member sends on joining."""
        return ConsumerProtocolMemberMetadata(self.version, list(topics), self._told)


class StaticName:
    """Tells this process from another one of the same ``instance_id``.

    Kafka does not tell why it knows a static member no longer: its session may have run out, its coordinator may have
    been frozen and have answered a join that nobody waited for any more, or another process may have joined under the
    name. Only what the present holder of the name sent on joining tells these apart.
    """

    def __init__(self, offsets: Offsets, spec: GroupSpec) -> None:
        self._offsets = offsets
        self._spec = spec
        self._told = uuid.uuid4().bytes
        self._ids: set[str] = set()
        self.assignor = NamedAssignor(self._told)

    def add_member_id(self, member_id: str) -> None:
        """Take note of an id that Kafka gave this process."""
        self._ids.add(member_id)

    async def find_successor(self, note: Callable[[TransientError], None]) -> SettingsError | None:
        """The error that says that another process has taken the name over; None: nobody has.

        Asks until Kafka answers, and hands ``note`` what keeps it from answering.
        """
        name, group = self._spec.instance_id, self._spec.group
        if name is None:
            return None
        for pause in pauses():
            try:
                holder = await self._offsets.static_member(group, name)
            except TransientError as error:
                note(error)
            else:
                if holder is None or holder.member_id in self._ids or holder.member_note == self._told:
                    return None
                if holder.member_note is not None:
                    break
            await asyncio.sleep(pause)
        return SettingsError(
            f"group {group}: another process has joined as instance_id {name!r} and took this one's place; give each "
            "process an instance_id of its own, or end this one"
        )
