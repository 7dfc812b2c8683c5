"""While broker, store or disk fail the gateway responds 503 and is not ready."""

from __future__ import annotations

import asyncio
import json
import sqlite3
from pathlib import Path

import pytest

from infra.broker.embedded import writer
from infra.broker.embedded.file.connection import open_writer
from infra.errors import (
    BrokerUnavailableError,
    RecordTooLargeError,
    RefusedError,
    SettingsError,
    TopicMismatchError,
)
from ingest.settings import GatewaySettings
from tests.servers.gateway import WHEN, Gateway, jpeg, running
from tests.servers.gateway_checks import assert_error


async def test_unavailable_broker_is_503_without_event(gateway: Gateway) -> None:
    gateway.publisher.fault = BrokerUnavailableError("kafka-7.internal:9092 refused the connection")
    response = await gateway.send()
    assert_error(response, 503, "BROKER_UNAVAILABLE")
    assert b"kafka-7" not in response.body
    assert await gateway.records() == []
    gateway.publisher.fault = None
    assert (await gateway.send()).status == 202
    assert len(await gateway.records()) == 1


async def test_silent_broker_is_503(tmp_path: Path) -> None:
    async with running(tmp_path, GatewaySettings(publish_timeout_s=0.1)) as gateway:
        gateway.publisher.hang = True
        assert_error(await gateway.send(), 503, "BROKER_UNAVAILABLE")


async def test_unavailable_store_is_503_without_event(gateway: Gateway) -> None:
    away = gateway.frames.rename(gateway.frames.with_name("unmounted"))
    response = await gateway.send()
    assert_error(response, 503, "STORAGE_UNAVAILABLE")
    assert str(gateway.frames).encode() not in response.body
    assert await gateway.records() == []
    away.rename(gateway.frames)
    assert (await gateway.send()).status == 202


@pytest.mark.parametrize(
    ("fault", "code"),
    [
        (RefusedError("Kafka at kafka-7.internal does not allow publishing: user gw, password hunter2"), "REFUSED"),
        (TopicMismatchError("kafka-7.internal has no topic frames.live"), "TOPIC_MISMATCH"),
        (SettingsError("broker.sasl_password: hunter2 at kafka-7.internal"), "INVALID_SETTING"),
        (OSError("kafka-7.internal: no space left"), "UNAVAILABLE"),
    ],
)
async def test_error_that_operator_can_correct_is_503_and_not_ready(
    gateway: Gateway, fault: Exception, code: str
) -> None:
    assert (await gateway.send()).status == 202
    assert gateway.health.report().ready
    gateway.publisher.fault = fault
    response = await gateway.send()
    assert_error(response, 503, code)
    assert b"kafka-7" not in response.body
    assert b"hunter2" not in response.body
    assert gateway.health.report().parts["broker"].reason == code
    gateway.publisher.fault = None
    assert (await gateway.send()).status == 202
    assert gateway.health.report().ready


async def test_record_too_large_does_not_change_broker_readiness(gateway: Gateway) -> None:
    assert (await gateway.send()).status == 202
    gateway.publisher.fault = RecordTooLargeError("2 MB")
    assert_error(await gateway.send(), 500, "INTERNAL_ERROR")
    assert gateway.health.report().ready


async def test_a_store_that_fails_or_hangs_is_not_ready_until_a_frame_was_kept(tmp_path: Path) -> None:
    async with running(tmp_path, GatewaySettings(store_timeout_s=0.2)) as gateway:
        assert (await gateway.send()).status == 202
        away = gateway.frames.rename(gateway.frames.with_name("unmounted"))
        assert_error(await gateway.send(jpeg(seed=4)), 503, "STORAGE_UNAVAILABLE")
        assert gateway.health.report().parts["store"].reason == "STORAGE_UNAVAILABLE"
        away.rename(gateway.frames)
        assert (await gateway.send()).status == 202
        assert gateway.health.report().ready
        gateway.store.hang = True
        assert_error(await gateway.send(jpeg(seed=5)), 503, "STORAGE_UNAVAILABLE")
        assert not gateway.health.report().ready


async def test_a_full_store_is_503_with_the_reason_and_not_ready(
    gateway: Gateway, monkeypatch: pytest.MonkeyPatch
) -> None:
    """C-S1-112: the store is full, here by a setting that is larger than any disk."""
    assert (await gateway.send()).status == 202
    monkeypatch.setattr(gateway.store._space, "_min_free_bytes", 2**62)
    body = assert_error(await gateway.send(jpeg(seed=2)), 503, "STORAGE_FULL")
    assert "full" in body["message"]
    assert gateway.health.report().parts["store"].reason == "STORAGE_FULL"
    monkeypatch.undo()
    assert (await gateway.send(jpeg(seed=2))).status == 202
    assert gateway.health.report().ready


async def test_a_full_disk_under_the_broker_is_not_ready_until_a_frame_was_accepted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each POST is 503 while small records, such as a probe's, still fit: not ready all the while."""
    pages = 1_000_000
    opened: list[sqlite3.Connection] = []

    def limited(path: Path, *, create: bool) -> sqlite3.Connection:
        opened.append(open_writer(path, create=create))
        opened[-1].execute(f"PRAGMA max_page_count = {pages}")
        return opened[-1]

    monkeypatch.setattr(writer, "open_writer", limited)
    settings = GatewaySettings(probe_interval_s=0.1, recovery_s=60)
    padded = {"captured_at": WHEN, "metadata": json.dumps({"pad": "x" * 10_000})}
    async with running(tmp_path, settings, probed=True) as gateway:
        assert (await gateway.send()).status == 202
        pages = 1  # SQLite takes it for: no more than there are
        opened[-1].execute("PRAGMA max_page_count = 1")
        for seed in range(5):
            assert_error(await gateway.send(jpeg(seed=seed), params=padded), 503, "BROKER_UNAVAILABLE")
            await asyncio.sleep(0.2)
            assert gateway.health.report().parts["broker"].reason == "BROKER_UNAVAILABLE"
        pages = 1_000_000
        # A connection that was opened during the outage fails again, and is then opened anew.
        assert 202 in [(await gateway.send(params=padded)).status for _ in range(2)]
        assert gateway.health.report().ready
