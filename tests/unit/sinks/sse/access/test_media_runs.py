"""Runs are looked up once for all clients, and belong to the media of one client."""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Mapping
from uuid import UUID

import pytest

from infra.errors import TransientError
from sinks.sse.access.media_runs import FollowedMedia, MediaRuns

RUN, OF_GUEST, OTHER, JOB = (UUID(int=number) for number in range(1, 5))


class Owners:
    def __init__(self) -> None:
        self.asked: list[Collection[UUID]] = []
        self.away = False

    async def find(self, *_: object) -> Collection[tuple[UUID, str]]:
        raise NotImplementedError

    async def media_of(self, ids: Collection[UUID]) -> Mapping[UUID, tuple[str, str]]:
        if self.away:
            raise TransientError("the database is away")
        self.asked.append(list(ids))
        await asyncio.sleep(0)
        rows = {RUN: ("desk", "film"), OF_GUEST: ("guest", "film"), OTHER: ("desk", "other")}
        return {each: rows[each] for each in ids if each in rows}


async def test_each_run_is_looked_up_once_for_all_clients() -> None:
    owners = Owners()
    runs = MediaRuns(owners)
    desk, guest = (FollowedMedia(client, frozenset({"film"}), runs) for client in ("desk", "guest"))
    every = (RUN, OF_GUEST, OTHER, JOB)
    found = await asyncio.gather(*(each.runs_among(every) for each in (desk, guest, desk)))
    assert found == [{RUN}, {OF_GUEST}, {RUN}]
    assert await desk.runs_among({JOB}) == frozenset()
    assert owners.asked == [list(every)]


async def test_a_run_that_could_not_be_looked_up_is_looked_up_again() -> None:
    owners = Owners()
    film = FollowedMedia("desk", frozenset({"film"}), MediaRuns(owners))
    owners.away = True
    with pytest.raises(TransientError):
        await film.runs_among({RUN})
    owners.away = False
    assert await film.runs_among({RUN}) == {RUN}


async def test_the_oldest_runs_are_forgotten() -> None:
    owners = Owners()
    film = FollowedMedia("desk", frozenset({"film"}), MediaRuns(owners, most=1))
    for run in (RUN, OTHER, OTHER, RUN):
        await film.runs_among({run})
    assert owners.asked == [[RUN], [OTHER], [RUN]]
