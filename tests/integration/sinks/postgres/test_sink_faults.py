"""The PostgreSQL sink while a person changes the database: it holds, reports why, and continues without a restart."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from infra.broker.embedded.adapter import EmbeddedBroker
from infra.consuming.consumer_loop import SinkRunner
from infra.consuming.settings import BatchSettings
from infra.database.pool import Database
from infra.database.settings import DatabaseSettings
from infra.failure.settings import RetrySettings
from infra.process.health import Health, HealthPart
from schemas.events import DetectionsMade
from schemas.topics import DETECTIONS, load_topics
from sinks.postgres.sink import PostgresSink
from standgale.testing.factories import detections_made, out_record
from standgale.testing.waiting import TIMEOUT_S, until
from tests.harnesses.sink_runs import dead, publish
from tests.servers.postgres_roles import Role, role

pytestmark = pytest.mark.integration

RETRY = RetrySettings(first_delay_s=0.05, max_delay_s=0.2)


@dataclass
class Site:
    """A database, a role of the sink's own in it, and an embedded broker."""

    role: Role
    folder: Path
    broker: EmbeddedBroker

    async def publish(self, *events: DetectionsMade) -> None:
        await publish(self.broker, *map(out_record, events))

    async def lag(self, group: str = "sink.postgres") -> int:
        admin = await self.broker.admin()
        found = await admin.group_lag(group, [DETECTIONS])
        await admin.close()
        return sum(found.values())

    async def dead(self) -> int:
        return len(await dead(self.broker))

    async def images(self) -> int:
        found: int = await self.role.admin.fetchval("SELECT count(*) FROM images")
        return found

    @property
    def url(self) -> str:
        return self.role.dsn("first-secret")


@pytest.fixture
async def site(migrated_dsn: str, tmp_path: Path) -> AsyncIterator[Site]:
    async with role(migrated_dsn, "first-secret") as sink:
        broker = EmbeddedBroker(tmp_path / "broker.sqlite", load_topics())
        yield Site(sink, tmp_path, broker)
        await broker.close()


@asynccontextmanager
async def running(
    site: Site, *, url_file: Path | None = None, name: str = "postgres", batch_records: int = 500, **database: float
) -> AsyncIterator[HealthPart]:
    opened = Database.open(DatabaseSettings.model_validate({"url": site.url, **database}), site.folder, url_file)
    sink = PostgresSink(opened)
    sink.name = name
    settings = BatchSettings(batch_wait_s=0.0, batch_records=batch_records)
    runner = SinkRunner(sink, site.broker, batches=settings, retry=RETRY)
    stop, part = asyncio.Event(), Health().part(name)
    task = asyncio.create_task(runner.run(stop, part))
    try:
        yield part
    finally:
        stop.set()
        await asyncio.wait_for(task, TIMEOUT_S)
        await opened.close()


def says(part: HealthPart, words: str) -> Callable[[], bool]:
    return lambda: words in (part.reason or "")


async def is_well(site: Site, part: HealthPart, images: int) -> None:
    async def well() -> bool:
        return part.reason is None and await site.lag() == 0

    await until(well)
    assert (await site.images(), await site.dead()) == (images, 0)


@dataclass(frozen=True)
class Fault:
    """Statements that cause a fault and end it, and the text of the sink during it; {role} is the sink's."""

    brings: str
    mends: str
    says: str


RAISES = """
CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RAISE EXCEPTION 'closed for stocktaking'; END $$;
CREATE TRIGGER refuse BEFORE INSERT ON images FOR EACH ROW EXECUTE FUNCTION refuse()
"""
SLOW = """
CREATE FUNCTION slow() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN PERFORM pg_sleep(0.01); RETURN NEW; END $$;
CREATE TRIGGER slow BEFORE INSERT ON detections FOR EACH ROW EXECUTE FUNCTION slow()
"""
FAULTS = {
    "password": Fault(
        "ALTER ROLE {role} PASSWORD 'second-secret'",
        "ALTER ROLE {role} PASSWORD 'first-secret'",
        "refuses user or password",
    ),
    "privilege": Fault(
        "REVOKE INSERT ON detections FROM {role}", "GRANT INSERT ON detections TO {role}", "lacks a privilege"
    ),
    "key": Fault(
        "ALTER TABLE detections DROP CONSTRAINT detections_pkey CASCADE",
        "ALTER TABLE detections ADD PRIMARY KEY (id)",
        "unique key is missing",
    ),
    "table": Fault(
        "ALTER TABLE detections RENAME TO elsewhere", "ALTER TABLE elsewhere RENAME TO detections", "table is missing"
    ),
    "trigger": Fault(RAISES, "DROP TRIGGER refuse ON images", "closed for stocktaking"),
    # What it raises is of the class of values that cannot be stored, though no event holds one.
    "value of a trigger": Fault(
        RAISES.replace("RAISE EXCEPTION 'closed for stocktaking'", "PERFORM 'closed for stocktaking'::uuid"),
        "DROP TRIGGER refuse ON images",
        "closed for stocktaking",
    ),
    "constraint": Fault(
        "ALTER TABLE images ADD CONSTRAINT none_at_all CHECK (width < 0) NOT VALID",
        "ALTER TABLE images DROP CONSTRAINT none_at_all",
        "none_at_all",
    ),
    # A session keeps the values from its start, so only a new one notices the correction.
    "read-only": Fault(
        "ALTER ROLE {role} SET default_transaction_read_only = on",
        "ALTER ROLE {role} RESET default_transaction_read_only",
        "read-only",
    ),
    "no time": Fault(
        "ALTER ROLE {role} SET statement_timeout = '1ms'; " + SLOW,
        "ALTER ROLE {role} RESET ALL; DROP TRIGGER slow ON detections",
        "statement timeout",
    ),
}


@pytest.mark.parametrize("fault", FAULTS.values(), ids=FAULTS.keys())
async def test_postgres_sink_holds_after_database_change_until_corrected(site: Site, fault: Fault) -> None:
    async with running(site) as part:
        await site.publish(*[detections_made(number) for number in range(3)])
        await is_well(site, part, images=3)
        await site.role.execute(fault.brings)
        await site.role.cut()
        # Of two devices, so that there are neighbours to look at.
        await site.publish(*[detections_made(number, device=f"drone-{number % 2}") for number in range(3, 23)])
        await until(says(part, fault.says))
        assert await site.lag() == 20
        assert await site.dead() == 0
        await site.role.execute(fault.mends)
        await is_well(site, part, images=23)


async def test_a_password_in_a_file_is_rotated_without_a_restart(site: Site, tmp_path: Path) -> None:
    file = tmp_path / "database-url"
    file.write_text(site.url)
    async with running(site, url_file=file) as part:
        await site.publish(detections_made(0))
        await is_well(site, part, images=1)
        await site.role.rotate("second-secret")
        await site.publish(detections_made(1))
        await until(says(part, "refuses user or password"))
        assert "secret" not in (part.reason or "")
        file.write_text(site.role.dsn("second-secret"))
        await is_well(site, part, images=2)


async def test_one_row_that_a_trigger_refuses_is_a_dead_letter_and_the_others_are_written(site: Site) -> None:
    await site.role.execute(RAISES.replace("BEGIN RAISE", "BEGIN IF NEW.width <> 1 THEN RETURN NEW; END IF; RAISE"))
    bad = detections_made(5)
    image = bad.image.model_copy(update={"width": 1})
    events = [detections_made(number, device=f"drone-{number % 2}") for number in range(10)]
    events[5] = detections_made(5, device="drone-1", image=image)
    await site.publish(*events)
    async with running(site) as part:

        async def done() -> bool:
            return await site.lag() == 0

        await until(done)
        assert part.reason is None
    assert (await site.images(), await site.dead()) == (9, 1)


async def test_a_database_slower_than_the_time_limit_gets_smaller_batches(site: Site) -> None:
    await site.role.execute(SLOW)
    await site.publish(*[detections_made(number) for number in range(120)])
    # 120 events take 2.4 s at once.
    async with running(site, command_timeout_s=0.8) as part:

        async def done() -> bool:
            return await site.images() == 120 and await site.lag() == 0

        await until(done)
        assert "records at once" in (part.report().note or "")
    assert await site.dead() == 0


async def test_two_sinks_and_connections_cut_in_the_middle_of_a_copy_write_each_row_once(site: Site) -> None:
    events = [
        detections_made(
            number,
            labels=["car"] * 100,
            device=f"drone-{number % 5}",
        )
        for number in range(200)
    ]
    await site.publish(*events)
    cut = 0
    async with (
        running(site, name="one", batch_records=40) as first,
        running(site, name="two", batch_records=25) as second,
    ):

        async def done() -> bool:
            nonlocal cut
            if cut < 4:
                cut += await site.role.admin.fetchval(
                    "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity "
                    "WHERE usename = $1 AND state = 'active' AND query LIKE 'COPY%'",
                    site.role.name,
                )
            behind = await site.lag("sink.one") + await site.lag("sink.two")
            return behind == 0 and first.reason is None and second.reason is None

        await until(done)
    assert cut >= 1, "no COPY was met"
    tables = ("images", "inference_sessions", "detections")
    rows = [await site.role.admin.fetchval(f"SELECT count(*) FROM {table}") for table in tables]
    assert rows == [200, 200, 20_000]
    assert await site.dead() == 0
