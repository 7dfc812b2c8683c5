"""Times that rows note, with a clock that goes on and with one that was set back."""

from __future__ import annotations

import pytest

from infra.database.clock_tests import is_ahead, is_older, is_over
from infra.database.pool import Database

pytestmark = pytest.mark.integration


async def truth(database: Database, condition: str, at: str) -> object:
    async with database.acquire() as connection:
        row = f"(SELECT clock_timestamp() + interval '{at}' AS at, NULL::timestamptz AS none) AS r"
        return await connection.fetchval(f"SELECT {condition} FROM {row}")


@pytest.mark.parametrize(("at", "over"), [("-1 s", True), ("5 s", False), ("9 min", False), ("1 day", True)])
async def test_a_wait_is_over_when_its_time_came_or_was_noted_by_another_clock(
    database: Database, at: str, over: bool
) -> None:
    longest = "interval '10 min'"
    assert await truth(database, is_over("at", longest), at) is over
    assert await truth(database, is_ahead("at", longest), at) is (at == "1 day")
    assert await truth(database, is_over("none", longest), at) is None


@pytest.mark.parametrize(("at", "older"), [("-1 h", True), ("-1 s", False), ("30 s", False), ("1 h", True)])
async def test_a_time_of_another_clock_is_old(database: Database, at: str, older: bool) -> None:
    assert await truth(database, is_older("at", "interval '10 min'"), at) is older
