"""Takes, renews and gives up leases on a real PostgreSQL, whose clock alone counts."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import suppress
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from infra.database.pool import Database
from infra.database.settings import DatabaseSettings
from infra.errors import TransientError
from ingest.sources import table as tables
from ingest.sources.table import Report, SourceTable

pytestmark = pytest.mark.integration


@pytest.fixture
async def database(migrated_dsn: str, tmp_path: Path) -> AsyncIterator[Database]:
    opened = Database.open(DatabaseSettings.model_validate({"url": migrated_dsn}), tmp_path)
    yield opened
    await opened.close()


@pytest.fixture
async def table(database: Database) -> SourceTable:
    found = SourceTable(database)
    await found.add("gate", "cam", "rtsp://cam.test/1", has_login=False, options={"frames": "every"})
    return found


def report(lease: int, *, gives_up: bool = False, accepted: int = 0) -> Report:
    return Report("gate", lease, "pulling", None, {"accepted": accepted}, 0.5, None, None, gives_up)


async def test_a_lease_is_one_pullers_until_it_ends_and_an_old_one_cannot_be_renewed(table: SourceTable) -> None:
    (taken,) = (await table.look("a", [], lease_s=0.5, most=9)).taken
    assert (taken.name, taken.lease) == ("gate", 1)
    assert (await table.look("b", [], lease_s=60, most=9)).taken == ()
    assert (await table.look("a", [report(1)], lease_s=0.5, most=9)).renewed == {"gate"}
    await asyncio.sleep(0.6)
    # The one that joined first is gone, too, so the source is the other's share.
    (again,) = (await table.look("b", [], lease_s=60, most=9)).taken
    assert again.lease == 2
    late = await table.look("a", [report(1, accepted=99)], lease_s=60, most=9)
    assert (late.renewed, late.taken) == (frozenset(), ())
    assert (await table.list())[0].counts == {"accepted": 0}


async def test_a_lease_of_a_clock_that_was_set_back_ends_in_time(table: SourceTable, database: Database) -> None:
    """The clock of the database was a day ahead when a process took the source, and was killed."""
    assert (await table.look("killed", [], lease_s=60, most=9)).taken
    async with database.acquire() as connection:
        await connection.execute("UPDATE video_sources SET lease_until = lease_until + interval '1 day'")
        await connection.execute("UPDATE video_pullers SET alive_until = alive_until + interval '1 day'")
    assert (await table.look("b", [], lease_s=60, most=9)).taken == ()
    async with database.acquire() as connection:
        for column in ("lease_until FROM video_sources", "max(alive_until) FROM video_pullers"):
            ends = await connection.fetchval(f"SELECT {column}")
            assert timedelta(0) < ends - await connection.fetchval("SELECT clock_timestamp()") <= timedelta(seconds=60)


async def test_a_source_that_is_given_up_is_taken_at_once_with_its_counts(table: SourceTable) -> None:
    await table.look("a", [], lease_s=60, most=9)
    await table.leave("a", [report(1, gives_up=True, accepted=7)])
    (taken,) = (await table.look("b", [], lease_s=60, most=9)).taken
    assert taken.counts == {"accepted": 7}


async def test_a_removed_source_is_gone_when_its_puller_gives_it_up(table: SourceTable) -> None:
    await table.look("a", [], lease_s=60, most=9)
    await table.remove("gate")
    assert await table.has("gate")
    assert (await table.look("a", [report(1)], lease_s=60, most=9)).renewed == frozenset()
    await table.look("a", [report(1, gives_up=True)], lease_s=60, most=9)
    assert not await table.has("gate")


async def test_no_puller_has_more_than_it_may(table: SourceTable) -> None:
    await table.add("b", "cam-b", "rtsp://cam.test/2", has_login=False, options={})
    found = await table.look("a", [], lease_s=60, most=1)
    assert (len(found.taken), found.share, found.left_out) == (1, 1, 1)


async def test_one_statement_renews_all_leases_of_a_puller(table: SourceTable, database: Database) -> None:
    for number in range(1, 50):
        await table.add(f"cam-{number}", f"cam-{number}", f"rtsp://cam.test/{number}", has_login=False, options={})
    taken = (await table.look("a", [], lease_s=60, most=50)).taken
    reports = [
        Report(each.name, each.lease - (number == 0), "waiting", None, {}, 0.0, None, None, gives_up=number == 1)
        for number, each in enumerate(sorted(taken, key=lambda one: one.name))
    ]
    statements: list[str] = []
    async with database.acquire() as connection:
        with connection.query_logger(lambda logged: statements.append(logged.query)):
            renewed = await tables._renew(connection, "a", reports, 60.0)
    assert sum("video_sources" in text for text in statements) == 1
    assert renewed == {each.name for each in reports[2:]}


async def test_a_puller_that_is_frozen_inside_a_transaction_keeps_no_source(
    table: SourceTable, migrated_dsn: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (taken,) = (await table.look("a", [], lease_s=1.0, most=9)).taken
    renew = tables._renew

    async def freeze(connection: Any, puller: str, reports: Sequence[Report], lease_s: float) -> frozenset[str]:
        found = await renew(connection, puller, reports, lease_s)
        await asyncio.sleep(30)
        return found

    monkeypatch.setattr(tables, "_renew", freeze)
    frozen = asyncio.create_task(table.look("a", [report(taken.lease)], lease_s=1.0, most=9))
    await asyncio.sleep(0.3)
    monkeypatch.setattr(tables, "_renew", renew)
    other = Database.open(DatabaseSettings.model_validate({"url": migrated_dsn}), tmp_path)
    try:
        async with asyncio.timeout(5):
            while not (await SourceTable(other).look("b", [], lease_s=60, most=9)).taken:  # noqa: ASYNC110
                await asyncio.sleep(0.1)
    finally:
        frozen.cancel()
        with suppress(asyncio.CancelledError, TransientError):
            await frozen
        await other.close()
