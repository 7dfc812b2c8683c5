"""Checks the doctor on real servers and files: its findings on a good installation, and on each fault."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import asyncpg
import pytest
import yaml
from pydantic import SecretStr

from infra.broker.embedded.adapter import EmbeddedBroker
from infra.broker.kafka.adapter import KafkaBroker
from infra.broker.open import embedded_file
from infra.broker.port import CommitPoint, GroupSpec, InRecord, OutRecord
from infra.broker.settings import BrokerSettings
from infra.database.settings import DatabaseSettings
from infra.deploy.kafka import KafkaServer
from infra.errors import ImageMissingError
from infra.failure.dead_letter_records import dead_letter
from infra.process.health import Health
from infra.process.http_server import health_component
from infra.storage.frames.folder import FolderFrameStore
from infra.storage.settings import FrameSettings
from infra.telemetry.settings import TelemetrySettings
from schemas.topics import FRAME_TOPICS, FRAMES_DEAD, FRAMES_LIVE, default_path, load_topics
from standgale.doctor.checks import all_checks
from standgale.doctor.examine import DoctorReport, examine
from standgale.settings import Settings
from standgale.testing.graphs import write_model
from tests.servers.kafka import kafka_settings
from tests.servers.postgres_roles import role

pytestmark = pytest.mark.integration

TIMEOUT_S = 30.0


async def installed(folder: Path, dsn: str) -> Settings:
    """An installation in ``folder`` on which services have run."""
    settings = Settings(
        data_dir=folder,
        database=DatabaseSettings(url=SecretStr(dsn)),
        telemetry=TelemetrySettings(health_port=1),
    )
    settings = settings.model_copy(
        update={"detector": settings.detector.model_copy(update={"model": write_model(folder / "model")})}
    )
    broker = EmbeddedBroker(embedded_file(folder), load_topics())
    await (await broker.publisher()).close()
    await broker.close()
    await FolderFrameStore(settings.frames_folder).close()
    return settings


async def examined(settings: Settings, *health: str) -> DoctorReport:
    return await examine(all_checks(settings, timeout_s=TIMEOUT_S, health=health), TIMEOUT_S)


def findings_of(report: DoctorReport, subject: str) -> Sequence[tuple[str, str]]:
    """Level and text (with the remedy) of each finding about ``subject``."""
    return [(one.level, f"{one.what} → {one.remedy}") for name, one in report.findings if name == subject]


def problems(report: DoctorReport) -> str:
    return "\n".join(f"{name}: {one.what}" for name, one in report.findings if one.level == "problem")


async def test_good_installation_has_no_problems_and_is_not_changed(migrated_dsn: str, tmp_path: Path) -> None:
    settings = await installed(tmp_path, migrated_dsn)
    before = sorted(path for path in tmp_path.rglob("*") if ".sqlite" not in path.name)
    health, stop = Health(), asyncio.Event()
    health.part("gateway").set_ready()
    component = health_component(TelemetrySettings(health_port=0), health)
    serving = asyncio.create_task(component.run(stop, Health().part("health")))
    address = f"http://127.0.0.1:{component.bind()}"
    try:
        report = await examined(settings, address)
        assert problems(report) == ""
        assert ("ok", f"{address} is ready: gateway → ") in findings_of(report, "services")
        health.part("gateway").set_not_ready("BROKER_UNAVAILABLE")
        (_, ill) = findings_of(await examined(settings, address), "services")
        assert ill[0] == "problem"
        assert "gateway is not ready: BROKER_UNAVAILABLE" in ill[1]
    finally:
        stop.set()
        await serving
    assert sorted(path for path in tmp_path.rglob("*") if ".sqlite" not in path.name) == before
    subjects = dict.fromkeys(name for name, _ in report.findings)
    assert set(subjects) >= {"settings", "topics", "clocks", "database", "frame store", "model", "disks"}


async def test_an_empty_folder_is_no_problem_and_stays_empty(tmp_path: Path) -> None:
    folder = tmp_path / "data"
    report = await examined(Settings(data_dir=folder, telemetry=TelemetrySettings(health_port=1)))
    assert problems(report) == ""
    assert report.level == "warning"
    assert not folder.exists()


async def test_topics_that_differ_are_named(migrated_dsn: str, tmp_path: Path) -> None:
    settings = await installed(tmp_path, migrated_dsn)
    declared = yaml.safe_load(default_path().read_text())
    declared["topics"]["detections"]["retention_s"] = 86_400
    other = tmp_path / "topics.yaml"
    other.write_text(yaml.safe_dump(declared))
    changed = settings.model_copy(update={"topics_file": other})
    assert [level for level, _ in findings_of(await examined(settings), "topics")] == ["ok"]
    ((level, text),) = findings_of(await examined(changed), "topics")
    assert level == "problem"
    assert "detections: retention_s is 2592000, declared is 86400" in text
    assert "standgale topics apply" in text
    # It was looked at and not mended.
    assert [level for level, _ in findings_of(await examined(changed), "topics")] == ["problem"]


async def test_a_database_without_schema_privileges_or_the_right_password(
    empty_dsn: str, migrated_dsn: str, tmp_path: Path
) -> None:
    settings = await installed(tmp_path, empty_dsn)

    async def database(dsn: str) -> str:
        url = settings.model_copy(update={"database": DatabaseSettings(url=SecretStr(dsn))})
        report = await examined(url)
        return "\n".join(" ".join(one) for one in findings_of(report, "database"))

    assert "problem it has no schema → standgale migrate up" in await database(empty_dsn)
    async with role(migrated_dsn, "right") as user:
        assert "problem" not in await database(user.dsn("right"))
        await user.execute("REVOKE INSERT ON detections FROM {role}")
        lacking = await database(user.dsn("right"))
        assert f"problem user {user.name} may not INSERT on detections → GRANT INSERT ON detections" in lacking
        await user.execute("REVOKE USAGE ON SEQUENCE inference_job_ids FROM {role}")
        assert "GRANT USAGE ON SEQUENCE inference_job_ids" in await database(user.dsn("right"))
        await user.execute("REVOKE UPDATE ON flights FROM {role}")
        await user.execute("REVOKE DELETE ON video_sources, video_pullers FROM {role}")
        lacking = await database(user.dsn("right"))
        for right, table in (("UPDATE", "flights"), ("DELETE", "video_sources"), ("DELETE", "video_pullers")):
            assert f"user {user.name} may not {right} on {table} → GRANT {right} ON {table}" in lacking
        wrong = await database(user.dsn("wrong"))
        assert "problem" in wrong
        assert "password" in wrong
        assert "wrong@" not in wrong
    connection = await asyncpg.connect(migrated_dsn)
    await connection.execute("UPDATE alembic_version SET version_num = '9999'")
    await connection.close()
    assert "problem its schema is at 9999, this program needs" in await database(migrated_dsn)


async def test_dead_letters_a_full_store_and_a_damaged_model(migrated_dsn: str, tmp_path: Path) -> None:
    settings = await installed(tmp_path, migrated_dsn)
    broker = EmbeddedBroker(embedded_file(tmp_path), load_topics())
    publisher = await broker.publisher()
    record = InRecord(FRAMES_LIVE, 0, 7, 1, "drone-1", b"{}", ())
    error = ImageMissingError("the frame store has no object")
    letter = dead_letter(record, group="detector", error=error, attempts=1, topic=FRAMES_DEAD)
    await publisher.publish([letter])
    await publisher.close()
    await broker.close()
    model = settings.detector.model
    assert model is not None
    model.write_text(model.read_text().replace("sha256: ", "sha256: 0000"))
    full = settings.model_copy(update={"frames": FrameSettings(min_free_bytes=10**18)})

    report = await examined(full)
    frames, sinks = findings_of(report, "dead letters")
    assert frames[0] == "warning"
    assert "frames.dead: up to 1; reasons of the last 1: IMAGE_MISSING (1)" in frames[1]
    assert "group detector: the frame store has no object" in frames[1]
    assert sinks[0] == "ok"
    ((level, text),) = findings_of(report, "frame store")
    assert level == "problem"
    assert "STORAGE_FULL" in text
    assert [level for level, _ in findings_of(report, "model")] == ["problem"]
    assert "less than frames.min_free_bytes" in problems(report)


async def test_group_without_members_is_reported_with_its_lag(migrated_dsn: str, tmp_path: Path) -> None:
    settings = await installed(tmp_path, migrated_dsn)
    assert [text.split(":")[0] for _, text in findings_of(await examined(settings), "groups")] == [
        "detector has never committed → start it, if frames were sent",
        "sink.postgres has never committed → start it, if frames were sent",
    ]
    broker = EmbeddedBroker(embedded_file(tmp_path), load_topics())
    publisher = await broker.publisher()
    await publisher.publish([OutRecord(FRAMES_LIVE, "drone-1", b"{}") for _ in range(3)])
    await publisher.close()
    member = await broker.consumer(GroupSpec("detector", FRAME_TOPICS))
    records: list[InRecord] = []
    while not records:
        records = await member.poll(max_records=1, timeout_s=5)
    await member.commit({records[0].source: CommitPoint(records[0].offset + 1, records[0].epoch)})
    await member.close()
    await broker.close()
    level, text = findings_of(await examined(settings), "groups")[0]
    assert level == "warning"
    assert "detector: 0 members, 2 records behind on" in text
    assert "no member reads: start it (standgale detector)" in text


def test_the_command_prints_a_table_for_people_and_json_for_scripts(migrated_dsn: str, tmp_path: Path) -> None:
    asyncio.run(installed(tmp_path, migrated_dsn))
    environment = {
        **os.environ,
        "STANDGALE_DATA_DIR": str(tmp_path),
        "STANDGALE_DATABASE__URL": migrated_dsn,
        "STANDGALE_TELEMETRY__HEALTH_PORT": "1",
        "COLUMNS": "200",
    }

    def doctor(*arguments: str, **changes: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-P", "-m", "standgale", "doctor", *arguments],
            env={**environment, **changes},
            cwd=tmp_path,
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )

    done = doctor("--json")
    assert done.returncode == 1, done.stdout + done.stderr
    found = json.loads(done.stdout)
    assert found["status"] == "warning"
    assert {"subject": "topics", "level": "ok"}.items() <= found["findings"][1].items()
    people = doctor(STANDGALE_FRAMES__MIN_FREE_BYTES=str(10**18))
    assert people.returncode == 2
    assert "STORAGE_FULL" in people.stdout
    assert "what to do" in people.stdout


async def test_available_and_unavailable_kafka(kafka_server: KafkaServer, migrated_dsn: str, tmp_path: Path) -> None:
    settings = await installed(tmp_path, migrated_dsn)
    broker = kafka_settings(kafka_server)
    topics = load_topics()
    kafka = KafkaBroker(broker, topics)
    admin = await kafka.admin()
    await admin.apply(topics.values())
    await admin.close()
    await kafka.close()
    report = await examined(settings.model_copy(update={"broker": broker}))
    assert problems(report) == ""
    clocks = findings_of(report, "clocks")
    assert clocks[0] == ("ok", "the broker takes records → ")
    assert clocks[1][0] == "ok"
    assert "the broker's clock is 0.0 s" in clocks[1][1]

    away = settings.model_copy(
        update={"broker": BrokerSettings(kind="kafka", bootstrap_servers="127.0.0.1:1", request_timeout_s=1)}
    )
    report = await examined(away)
    assert {name for name, one in report.findings if one.level == "problem"} == {
        "topics", "groups", "dead letters", "clocks"
    }  # fmt: skip
