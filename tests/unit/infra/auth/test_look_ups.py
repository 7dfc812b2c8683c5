"""Look-ups of tokens: many guesses cost few queries, and a token is found with the first of them."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import pytest

from infra.auth import look_ups
from infra.auth.look_ups import LookUps
from infra.errors import DatabaseUnavailableError
from infra.process.monotonic import monotonic_s


class Table:
    """Keeps the ids of each query, and when it began."""

    def __init__(self) -> None:
        self.queries: list[list[str]] = []
        self.began: list[float] = []
        self.hold = asyncio.Event()
        self.hold.set()
        self.away = False

    async def read(self, token_ids: Sequence[str]) -> None:
        self.began.append(monotonic_s())
        self.queries.append(list(token_ids))
        await self.hold.wait()
        if self.away:
            raise DatabaseUnavailableError("it is away")


async def test_requests_with_one_new_token_wait_for_the_same_query() -> None:
    table = Table()
    found = LookUps(table.read, "tokens")
    table.hold.clear()
    waiting = [asyncio.create_task(found.find("a")) for _ in range(20)]
    await asyncio.sleep(0.05)
    assert [task.done() for task in waiting] == [False] * 20
    table.hold.set()
    await asyncio.gather(*waiting)
    assert table.queries == [["a"]]


async def test_an_unknown_token_is_looked_up_once_until_the_next_list() -> None:
    table = Table()
    found = LookUps(table.read, "tokens")
    for _ in range(50):
        await found.find("a")
    found.forget()
    await found.find("a")
    assert table.queries == [["a"], ["a"]]


async def test_guesses_cost_a_query_in_an_interval_and_are_bounded() -> None:
    table = Table()
    found = LookUps(table.read, "tokens")
    for batch in range(3):
        await asyncio.gather(*(found.find(f"{batch}-{number}") for number in range(300)))
    assert [len(ids) for ids in table.queries] == [look_ups._MOST_AT_ONCE] * 3
    pauses = [later - before for before, later in zip(table.began, table.began[1:], strict=False)]
    assert min(pauses) >= look_ups.EVERY_S * 0.99


async def test_look_ups_between_two_lists_have_a_bound(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(look_ups, "_MOST_REMEMBERED", 150)
    table = Table()
    found = LookUps(table.read, "tokens")
    for batch in range(3):
        await asyncio.gather(*(found.find(f"{batch}-{number}") for number in range(100)))
    assert [len(ids) for ids in table.queries] == [100, 50]
    found.forget()
    await found.find("later")
    assert table.queries[-1] == ["later"]


async def test_a_database_that_fails_or_hangs_costs_a_request_a_limited_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(look_ups, "_LIMIT_S", 0.05)
    monkeypatch.setattr(look_ups, "_PAUSE_S", 0.1)
    table = Table()
    found = LookUps(table.read, "tokens")
    table.away = True
    await found.find("a")
    table.away = False
    table.hold.clear()
    await found.find("b")
    table.hold.set()
    await found.find("c")
    assert table.queries == [["a"], ["b"], ["c"]]
    assert table.began[1] - table.began[0] >= 0.099


async def test_a_request_that_ends_leaves_the_query_to_the_others() -> None:
    table = Table()
    found = LookUps(table.read, "tokens")
    table.hold.clear()
    first, second = (asyncio.create_task(found.find("a")) for _ in range(2))
    await asyncio.sleep(0.02)
    first.cancel()
    await asyncio.gather(first, return_exceptions=True)
    table.hold.set()
    await second
    assert table.queries == [["a"]]
