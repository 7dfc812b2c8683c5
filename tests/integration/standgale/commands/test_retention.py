"""The verbs `retention …` on a real database, a folder and the embedded broker."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import orjson
import pytest
from typer.testing import CliRunner

from infra.broker.embedded.adapter import EmbeddedBroker
from infra.broker.open import embedded_file
from infra.broker.port import CommitPoint, GroupSpec, OutRecord, TopicPartition
from infra.database.pool import Database
from infra.database.settings import DatabaseSettings
from schemas.errors import StandgaleError
from schemas.topics import DETECTIONS, load_topics
from standgale.cli import app
from standgale.doctor.retention import RetentionCheck
from standgale.settings import load_settings
from tests.harnesses.retention import Frame, RetentionSite

pytestmark = pytest.mark.integration

FRAMES = [Frame(1, 120), Frame(2, 100, 0.5), Frame(3, 2), Frame(4, 110, flight="north")]


class Verbs:
    """Runs `standgale retention …` in this process."""

    def __init__(self, folder: Path, dsn: str) -> None:
        self.environment = {
            "STANDGALE_DATA_DIR": str(folder),
            "STANDGALE_DATABASE__URL": dsn,
            "STANDGALE_RETENTION__MAX_ORPHAN_SHARE": "1",
            "COLUMNS": "200",
        }

    def __call__(self, *arguments: str, status: int = 0) -> str:
        done = CliRunner().invoke(app, ["retention", *arguments], env=self.environment)
        if status == 2:
            assert isinstance(done.exception, StandgaleError)
            return f"{done.stderr}{done.exception}"
        assert done.exit_code == status, (done.output, done.exception)
        return done.stdout

    def json(self, *arguments: str, status: int = 0) -> Any:
        return orjson.loads(self(*arguments, "--json", status=status))


async def fill(folder: Path, dsn: str) -> None:
    """Write frames, and let a group read one event of them, or the broker would not know who reads."""
    database = Database.open(DatabaseSettings(url=dsn), folder)
    await RetentionSite(folder / "frames", database).add(FRAMES)
    await database.close()
    broker = EmbeddedBroker(embedded_file(folder), load_topics())
    publisher, consumer = await broker.publisher(), await broker.consumer(GroupSpec("sink.postgres", (DETECTIONS,)))
    await publisher.publish([OutRecord(DETECTIONS, "cam-1", b"{}")])
    records = await consumer.poll(max_records=1, timeout_s=5)
    await consumer.commit(
        {TopicPartition(DETECTIONS, each.partition): CommitPoint(each.offset + 1, each.epoch) for each in records}
    )
    await consumer.close()
    await publisher.close()
    await broker.close()


def test_frames_are_pinned_looked_at_removed_and_compared(migrated_dsn: str, tmp_path: Path) -> None:
    verbs = Verbs(tmp_path, migrated_dsn)
    assert "has no file" in verbs("run", "--dry-run", status=2)
    asyncio.run(fill(tmp_path, migrated_dsn))
    verbs("pin", "north", "--reason", "crash", "--device", "cam-1", "--flight", "north")
    assert "there is a pin 'north' already" in verbs("pin", "north", "--reason", "x", "--device", "a", status=2)
    (pin,) = verbs.json("pins")
    assert (pin["name"], pin["device_id"], pin["flight_id"], pin["pictures"]) == ("north", "cam-1", "north", None)
    listed = tmp_path / "would-go.jsonl"
    dry = verbs.json("run", "--dry-run", "--list", str(listed))
    assert dry["planned"] == {"age": {"pictures": 2, "bytes": 2_000}}
    assert dry["kept"] == {"pinned": {"pictures": 1, "bytes": 1_000}}
    gone = {orjson.loads(line)["sha256"] for line in listed.read_bytes().splitlines()}
    assert gone == {FRAMES[0].digest, FRAMES[1].digest}
    found = verbs.json("estimate", "--max-total-gb", "0.000003", "--retention-days", "105")
    assert found["planned"]["age"]["pictures"] == 1
    # Some hundred bytes a day never fill this disk; four frames are above the limit of three.
    assert (found["forecast"]["full_in_days"], found["forecast"]["limit_in_days"]) == (None, 0)
    assert verbs.json("run")["removed"] == dry["planned"]
    verbs("audit")
    (tmp_path / "frames" / FRAMES[2].relative).unlink()
    assert verbs.json("audit", status=1)["missing"] == 1
    verbs("unpin", "north")
    assert "a run now would remove (age): 1 picture," in verbs("run", "--dry-run")
    assert "removed (age): 1 picture" in verbs("run")


async def _publish_unread(folder: Path) -> None:
    broker = EmbeddedBroker(embedded_file(folder), load_topics())
    publisher = await broker.publisher()
    await publisher.publish([OutRecord(DETECTIONS, "cam-1", b"{}")])
    await publisher.close()
    await broker.close()


def test_an_estimate_waits_for_no_consumer_and_a_run_names_the_one(migrated_dsn: str, tmp_path: Path) -> None:
    verbs = Verbs(tmp_path, migrated_dsn)
    asyncio.run(fill(tmp_path, migrated_dsn))
    asyncio.run(_publish_unread(tmp_path))
    assert verbs.json("estimate")["planned"] == {"age": {"pictures": 3, "bytes": 3_000}}
    output = verbs("run", "--dry-run", "--wait", "0.6", status=2)
    assert "waiting for the consumer group sink.postgres, at most 0.6 s" in output
    assert "the consumer group sink.postgres has not read events since" in output


def test_pictures_of_a_data_set_are_pinned_by_their_digests(migrated_dsn: str, tmp_path: Path) -> None:
    verbs = Verbs(tmp_path, migrated_dsn)
    asyncio.run(fill(tmp_path, migrated_dsn))
    digests = tmp_path / "set.sha256"
    digests.write_text(f"{FRAMES[0].digest}\n{FRAMES[1].digest}\n")
    verbs("pin", "set-1", "--reason", "data set", "--digests", str(digests), "--expires", "2099-01-01")
    assert "2 pictures, until 2099-01-01" in verbs("pins")
    assert verbs.json("run", "--dry-run")["planned"] == {"age": {"pictures": 1, "bytes": 1_000}}
    verbs("unpin", "set-1")
    made = CliRunner().invoke(app, ["dataset", "create", "old-1", "--where", "confidence >= 0"], env=verbs.environment)
    assert made.exit_code == 0, (made.output, made.exception)
    verbs("pin", "set-2", "--reason", "data set", "--dataset", "old-1")
    assert verbs.json("run", "--dry-run")["kept"] == {"pinned": {"pictures": 1, "bytes": 1_000}}
    assert "there is no data set other" in verbs("pin", "set-3", "--reason", "x", "--dataset", "other", status=2)


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (["bad/name", "--device", "cam-1"], "is no name of a pin"),
        (["all"], "selects nothing"),
        (["north", "--flight", "north"], "give the device of the flight, too"),
        (["year", "--since", "2026-02-01", "--until", "2026-01-01"], "not later"),
        (["set", "--digests", "/dev/null"], "has no pictures"),
        (["old", "--device", "cam-1", "--expires", "2020-01-01"], "--expires 2020-01-01 is in the past"),
    ],
)
def test_a_pin_that_keeps_nothing_is_refused(
    migrated_dsn: str, tmp_path: Path, arguments: list[str], text: str
) -> None:
    assert text in Verbs(tmp_path, migrated_dsn)("pin", *arguments, "--reason", "why", status=2)


async def test_the_doctor_warns_of_runs_that_are_late_and_do_not_suffice(migrated_dsn: str, tmp_path: Path) -> None:
    database = Database.open(DatabaseSettings(url=migrated_dsn), tmp_path)
    given = {"database.url": migrated_dsn, "data_dir": str(tmp_path)}
    off = await RetentionCheck(load_settings(None, given)).look()
    assert [finding.level for finding in off] == ["ok"]
    check = RetentionCheck(load_settings(None, {**given, "retention.cleanup_enabled": True}))
    assert ["no run has ended yet" in finding.what for finding in await check.look()] == [True]
    async with database.acquire() as connection:
        await connection.execute(
            "INSERT INTO retention_runs (began_at, ended_at, over_bytes) VALUES (now() - interval '9 days', now(), 5)"
        )
    assert [finding.level for finding in await check.look()] == ["warning", "warning"]
    await database.close()
