"""The number of members of a consumer group is kept for some seconds, and unknown while the broker is away."""

from __future__ import annotations

from collections.abc import Sequence
from typing import cast

import pytest

from infra.broker.port import Admin, GroupState
from infra.errors import BrokerUnavailableError
from standgale.services import group_members
from standgale.services.group_members import GroupMembers


class GroupsAdmin:
    """An admin client that lists two groups."""

    opened = closed = 0
    is_away = False

    async def groups(self) -> Sequence[GroupState]:
        if self.is_away:
            raise BrokerUnavailableError("it is away")
        return [GroupState(name, members, (), 0, None, None) for name, members in (("sink", 1), ("detector", 3))]

    async def close(self) -> None:
        self.closed += 1

    async def open(self) -> Admin:
        self.opened += 1
        return cast(Admin, self)


async def test_members_are_counted_once_in_some_seconds(monkeypatch: pytest.MonkeyPatch) -> None:
    admin = GroupsAdmin()
    members, other = GroupMembers(admin.open, "detector"), GroupMembers(admin.open, "nobody")
    assert [await members.count() for _ in range(3)] == [3, 3, 3]
    assert await other.count() == 0
    assert (admin.opened, admin.closed) == (2, 2)
    monkeypatch.setattr(group_members, "_REFRESH_S", 0.0)
    admin.is_away = True
    assert await members.count() is None
    admin.is_away = False
    assert await members.count() == 3
    assert admin.opened == admin.closed
