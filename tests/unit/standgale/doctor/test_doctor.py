"""The doctor: checks that fail or hang, settings that contradict each other, groups that fall behind, full disks."""

from __future__ import annotations

import asyncio
import shutil
import threading
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest
from pydantic import SecretStr

from infra.broker.embedded.adapter import EmbeddedBroker
from infra.broker.open import embedded_file
from infra.broker.port import GroupState, Loss, TopicPartition
from infra.broker.settings import BrokerSettings
from infra.database.settings import DatabaseSettings
from infra.errors import BrokerUnavailableError
from infra.failure.dead_letter_records import lost_letter
from infra.telemetry.settings import TelemetrySettings
from ingest.settings import GatewaySettings
from schemas.topics import FRAMES_DEAD, FRAMES_LIVE, load_topics
from sinks.settings import SseSettings
from standgale.doctor import disks
from standgale.doctor.clocks import DatabaseClockCheck, FileClockCheck
from standgale.doctor.dead_letters import DeadLettersCheck
from standgale.doctor.disks import DisksCheck
from standgale.doctor.examine import examine, in_thread
from standgale.doctor.groups import judge
from standgale.doctor.port import DoesNotExistError, Finding, ok, problem, warning
from standgale.doctor.services import ServiceCheck, own_address
from standgale.doctor.settings import SettingsCheck
from standgale.settings import Settings

NOW_S = 1_800_000_000.0


class Canned:
    """A check that finds, raises or hangs as it is told."""

    def __init__(self, subject: str, outcome: Finding | Exception | None) -> None:
        self.subject = subject
        self._outcome = outcome

    async def look(self) -> Sequence[Finding]:
        if self._outcome is None:
            await asyncio.sleep(60)
        if isinstance(self._outcome, Exception):
            raise self._outcome
        return [self._outcome] if self._outcome is not None else []


async def test_a_check_that_fails_or_hangs_never_stops_the_others() -> None:
    checks = [
        Canned("broker", BrokerUnavailableError("kafka-7 refused")),
        Canned("bug", RuntimeError("a bug")),
        Canned("hanging", None),
        Canned("absent", DoesNotExistError("no file yet")),
        Canned("fine", ok("all is well")),
    ]
    report = await asyncio.wait_for(examine(checks, 0.2), 20)
    assert [(subject, finding.level) for subject, finding in report.findings] == [
        ("broker", "problem"),
        ("bug", "problem"),
        ("hanging", "problem"),
        ("absent", "warning"),
        ("fine", "ok"),
    ]
    assert "BROKER_UNAVAILABLE: kafka-7 refused" in report.findings[0][1].what
    assert "no response within 0.2 s" in report.findings[2][1].what
    assert all(finding.remedy for _, finding in report.findings if finding.level != "ok")
    assert (report.level, report.hung) == ("problem", False)


async def test_check_that_ignores_cancellation_is_reported_as_late() -> None:
    free = asyncio.Event()

    class Stubborn:
        subject = "stubborn"

        async def look(self) -> Sequence[Finding]:
            while not free.is_set():
                try:
                    await free.wait()
                except asyncio.CancelledError:
                    continue
            return []

    report = await asyncio.wait_for(examine([Stubborn(), Canned("fine", ok("well"))], 0.1), 20)
    assert report.hung
    assert [finding.level for _, finding in report.findings] == ["problem", "ok"]
    free.set()


async def test_a_check_whose_thread_still_works_at_the_time_limit_counts_as_hung() -> None:
    """The end of the interpreter would stop it inside a library, and abort the process."""
    free = threading.Event()

    class Loading:
        subject = "model"

        async def look(self) -> Sequence[Finding]:
            await in_thread(free.wait)
            return []

    report = await examine([Loading()], 0.05)
    assert (report.level, report.hung) == ("problem", True)
    free.set()
    report = await examine([Loading()], 5.0)
    assert (report.level, report.hung) == ("ok", False)


async def test_a_thread_that_hangs_is_left_behind() -> None:
    free = threading.Event()
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(in_thread(free.wait), 0.1)
    free.set()
    assert await in_thread(lambda: 7) == 7
    with pytest.raises(OSError, match="away"):
        await in_thread(_raise)


def _raise() -> None:
    raise OSError("away")


async def test_the_worst_finding_is_the_level() -> None:
    assert (await examine([], 1)).level == "ok"
    findings = [ok("a"), warning("b", "c")]
    assert (await examine([Canned("x", one) for one in findings], 1)).level == "warning"
    assert (await examine([Canned("x", one) for one in [*findings, problem("d", "e")]], 1)).level == "problem"


async def test_settings_that_differ_are_listed_and_secrets_are_not_shown() -> None:
    settings = Settings(
        database=DatabaseSettings(url=SecretStr("postgresql://u:hunter2@h/d")), gateway=GatewaySettings(port=8123)
    )
    (finding,) = await SettingsCheck(settings).look()
    assert finding.level == "ok"
    assert "2 differ" in finding.what
    assert "gateway.port=8123" in finding.what
    assert "database.url=**********" in finding.what
    assert "hunter2" not in finding.what
    (defaults,) = await SettingsCheck(Settings()).look()
    assert defaults == ok("all are the defaults")


async def test_settings_that_do_not_fit_together_are_named() -> None:
    settings = Settings(
        broker=BrokerSettings(kind="kafka", bootstrap_servers="kafka-1:9092,kafka-2:9092", replication=1),
        gateway=GatewaySettings(port=8001, max_in_flight_bytes=1_000_000),
        sse=SseSettings(host="0.0.0.0", port=8001),
        telemetry=TelemetrySettings(health_port=8001),
    )
    findings = await SettingsCheck(settings).look()
    text = "\n".join(finding.what for finding in findings if finding.level == "problem")
    assert "max_in_flight_bytes" in text
    assert "gateway.port and sse.port, telemetry.health_port are all 8001" in text
    warned = "\n".join(finding.what for finding in findings if finding.level == "warning")
    for words in (
        "unencrypted",
        "one copy",
        "are stored in a folder",
        "embedded one",
        "of one machine",
        "needs no token",
    ):
        assert words in warned
    assert all(finding.remedy for finding in findings if finding.level != "ok")


def group(name: str, *, members: int = 1, lag: int = 0, oldest_h: float | None = None) -> GroupState:
    oldest_ms = None if oldest_h is None else int((NOW_S - 3600 * oldest_h) * 1000)
    return GroupState(name, members, ("frames.live", "frames.jobs"), lag, None, oldest_ms)


@pytest.mark.parametrize(
    ("state", "level", "words"),
    [
        (group("detector"), "ok", "1 member, 0 records behind"),
        (group("detector", lag=5, oldest_h=1), "ok", "the oldest is 1.0 h old, they are kept 168.0 h"),
        (group("detector", lag=5, oldest_h=100), "warning", "reads too slowly or not at all"),
        (group("detector", lag=5, oldest_h=140), "problem", "deleted unread"),
        (
            group("detector", members=0, lag=5, oldest_h=1),
            "warning",
            "or standgale topics forget-group detector",
        ),
        (group("detector", members=0), "ok", "0 members"),
    ],
)
def test_groups_that_lag_or_have_no_members_are_judged(state: GroupState, level: str, words: str) -> None:
    foreign = GroupState("billing", 0, ("invoices",), 99, None, 0)
    first, *rest = judge([foreign, state], load_topics(), NOW_S)
    assert first.level == level
    assert words in f"{first.what} → {first.remedy}"
    assert [one.what for one in rest] == ["sink.postgres has never committed"]


async def test_disks_that_are_nearly_full(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    check = DisksCheck(Settings(data_dir=tmp_path / "not" / "there"))

    async def level(free: int) -> str:
        monkeypatch.setattr(shutil, "disk_usage", lambda _: SimpleNamespace(total=100 * 10**9, free=free))
        (finding,) = await check.look()
        assert str(tmp_path) in finding.what
        return finding.level

    assert [await level(free) for free in (50 * 10**9, 9 * 10**9, 10**7)] == ["ok", "warning", "problem"]
    monkeypatch.setattr(disks.os, "access", lambda *_: False)
    assert any("may not write" in finding.what for finding in await check.look())


async def test_no_service_at_the_health_port_is_a_warning() -> None:
    settings = Settings(telemetry=TelemetrySettings(health_port=1))
    report = await examine([ServiceCheck(address) for address in own_address(settings.telemetry)], 10)
    assert report.level == "warning"
    assert "http://127.0.0.1:1" in report.findings[0][1].what
    # Each service takes a free port, so nobody knows where to ask.
    assert own_address(TelemetrySettings(health_port=0)) == ()
    everywhere = Settings(telemetry=TelemetrySettings(health_host="0.0.0.0", health_port=7))
    assert own_address(everywhere.telemetry) == ("http://127.0.0.1:7",)


async def test_a_letter_of_a_newer_version_is_passed_over_and_lost_records_are_a_problem(tmp_path: Path) -> None:
    broker = EmbeddedBroker(embedded_file(tmp_path), load_topics())
    publisher = await broker.publisher()
    lost = lost_letter(Loss(TopicPartition(FRAMES_LIVE, 0), 3, 9, 1), group="detector", topic=FRAMES_DEAD)
    newer = tuple((name, value.replace(b".v1", b".v9")) for name, value in lost.headers)
    await publisher.publish([replace(lost, headers=newer), lost])
    await broker.close()
    frames, sinks = await DeadLettersCheck(Settings(data_dir=tmp_path), load_topics()).look()
    assert (frames.level, sinks.level) == ("problem", "ok")
    assert "frames.dead: up to 2; reasons of the last 1: RECORDS_LOST (1)" in frames.what


async def test_a_disk_that_hangs_stops_no_other_check(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    released, settings, topics = threading.Event(), Settings(data_dir=tmp_path), load_topics()
    monkeypatch.setattr(Path, "is_file", lambda _: released.wait(30))
    monkeypatch.setattr(Path, "is_dir", lambda _: released.wait(30))
    hanging = [DeadLettersCheck(settings, topics), DatabaseClockCheck(settings), FileClockCheck(settings)]
    try:
        report = await examine([*hanging, Canned("well", ok("fine"))], 0.3)
    finally:
        released.set()
    assert [finding.level for _, finding in report.findings] == ["problem"] * 3 + ["ok"]


@pytest.mark.parametrize("section", ["sse", "gateway"])
async def test_settings_check_names_a_live_stream_that_is_open_to_the_network(section: str) -> None:
    def settings(**sse: object) -> Settings:
        sections: dict[str, dict[str, object]] = {"sse": dict(sse)}
        sections.setdefault(section, {})["host"] = "0.0.0.0"
        return Settings.model_validate(sections)

    (_, finding) = await SettingsCheck(settings()).look()
    assert "the stream needs no token" in finding.what
    assert len(await SettingsCheck(settings(access="keys")).look()) == 1
    assert len(await SettingsCheck(settings(tokens=("shared",))).look()) == 1
