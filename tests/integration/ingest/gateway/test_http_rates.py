"""Rates, proxies and back-pressure over HTTP (C-S2-084, C-S2-086, I9)."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest

from infra.broker.port import TopicPartition
from infra.process.health import Health
from infra.process.http_settings import HttpSettings
from ingest.limits import lag_watch
from ingest.limits.lag import LagLimits
from ingest.limits.lag_watch import LagWatch
from ingest.limits.settings import LimitsSettings
from ingest.settings import GatewaySettings
from schemas.topics import FRAMES_LIVE
from tests.harnesses.stand_in_detector import detecting
from tests.servers.gateway import OTHER_TOKEN, PATH, TOKEN, WHEN, jpeg, running
from tests.servers.gateway_checks import assert_error

_TIMES = (WHEN, "noon", WHEN, WHEN, WHEN)


async def test_address_gets_429_with_headers_before_its_body_is_read(tmp_path: Path) -> None:
    async with running(tmp_path, limits=LimitsSettings(address_per_minute=2)) as gateway:
        first = await gateway.send()
        assert (first.status, first.headers["X-RateLimit-Limit"]) == (202, "2")
        assert (await gateway.send(path="/nothing")).headers["X-RateLimit-Remaining"] == "0"
        raw = await gateway.raw(f"X-API-Token: {TOKEN}\r\nContent-Length: 9000000\r\nExpect: 100-continue\r\n")
        refused = await raw.read_response()
        assert_error(refused, 429, "RATE_LIMIT_EXCEEDED")
        assert 1 <= int(refused.headers["retry-after"]) <= 61
        assert refused.headers["ratelimit"].startswith('"address";r=0;t=')
        health = await gateway.send(b"", method="GET", path="/api/v1/health", token=None, params={})
        assert health.status == 200


async def test_device_gets_429_and_another_does_not(tmp_path: Path) -> None:
    async with running(tmp_path, limits=LimitsSettings(device_per_minute=3)) as gateway:
        sent = [await gateway.send(jpeg(seed=seed), params={"captured_at": when}) for seed, when in enumerate(_TIMES)]
        assert [one.status for one in sent] == [202, 400, 202, 429, 429]
        assert [one.headers["X-RateLimit-Remaining"] for one in sent] == ["2", "1", "0", "0", "0"]
        other = await gateway.send(token=OTHER_TOKEN)
        assert (other.status, other.headers["X-RateLimit-Remaining"]) == (202, "2")


async def test_guessing_tokens_is_stopped_for_the_address_only(tmp_path: Path) -> None:
    async with running(tmp_path, limits=LimitsSettings(bad_tokens_per_minute=3)) as gateway:
        assert (await gateway.send()).status == 202
        statuses = [(await gateway.send(token=f"stg_guess_{number}")).status for number in range(5)]
        assert statuses == [401, 401, 401, 429, 429]
        assert (await gateway.send()).status == 202


async def test_forwarded_address_counts_only_behind_a_trusted_proxy(tmp_path: Path) -> None:
    limits = LimitsSettings(address_per_minute=1)
    for trusted, second in (((), 429), (("127.0.0.1",), 202)):
        http = HttpSettings(trusted_proxies=trusted)
        async with running(tmp_path, limits=limits, http=http) as gateway:
            # The left part is what a client may write itself; the last one is written by the proxy.
            for address, status in (("192.0.2.1", 202), ("192.0.2.2", second), ("192.0.2.1", 429)):
                sent = await gateway.send(headers={"X-Forwarded-For": f"203.0.113.9, {address}"})
                assert sent.status == status


async def test_frames_get_503_while_detectors_are_behind_and_then_202(tmp_path: Path) -> None:
    """The detectors' group has read nothing, and then everything."""
    settings = LimitsSettings(max_lag_frames=4, lag_interval_s=0.1)
    lag = LagLimits(settings)
    async with running(tmp_path, limits=settings, lag=lag) as gateway:
        watch, stop = LagWatch(gateway.broker, "detectors", lag, settings.lag_interval_s), asyncio.Event()
        watching = asyncio.create_task(watch.run(stop, gateway.health.part("lag")))
        try:
            for seed in range(2):
                assert (await gateway.send(jpeg(seed=seed))).status == 202
            await _until(lambda: lag.refusing() == 1)
            waiting = await gateway.send(jpeg(seed=9), params={"captured_at": WHEN, "priority": "backfill"})
            assert (waiting.status, waiting.json["error_code"]) == (503, "DETECTORS_BEHIND")
            for seed in range(2, 4):
                assert (await gateway.send(jpeg(seed=seed))).status == 202
            await _until(lambda: lag.refusing() == 2)
            raw = await gateway.raw(f"X-API-Token: {TOKEN}\r\nContent-Length: 9000000\r\nExpect: 100-continue\r\n")
            refused = await raw.read_response()
            assert (refused.status, refused.json["error_code"]) == (503, "DETECTORS_BEHIND")
            assert 1 <= int(refused.headers["retry-after"]) <= 360
            assert "limits.max_lag_frames" in refused.json["message"]
            assert gateway.health.report().parts["lag"].ready
            async with detecting(gateway.broker):
                await _until(lambda: lag.refusing() == 0)
            assert (await gateway.send(jpeg(seed=9))).status == 202
        finally:
            stop.set()
            await watching


async def test_lag_that_cannot_be_read_leaves_frames_accepted(tmp_path: Path) -> None:
    settings = LimitsSettings(max_lag_frames=1, lag_interval_s=0.1)
    lag = LagLimits(settings)
    async with running(tmp_path, limits=settings, lag=lag) as gateway:
        watch, stop = LagWatch(_Away(), "detector", lag, 0.1), asyncio.Event()  # type: ignore[arg-type]
        watching = asyncio.create_task(watch.run(stop, Health().part("lag")))
        for seed in range(3):
            assert (await gateway.send(jpeg(seed=seed))).status == 202
            await asyncio.sleep(0.15)
        stop.set()
        await watching


async def test_hundred_clients_get_no_other_status_and_memory_is_flat(tmp_path: Path) -> None:
    limits = LimitsSettings(device_per_minute=300, max_lag_frames=1_000_000)
    lag = _Alternating(limits)
    settings = GatewaySettings(answer_timeout_s=0.1, max_waiting=60, max_concurrent_uploads=16)
    async with running(tmp_path, settings, limits=limits, lag=lag) as gateway:
        process, pictures = psutil.Process(), [jpeg(seed=seed) for seed in range(4)]

        async def one(number: int) -> list[int]:
            token, found = (TOKEN, OTHER_TOKEN)[number % 2], []
            for at, path in enumerate((PATH, "/api/v1/detect", PATH, "/api/v1/detect")):
                sent = await gateway.send(pictures[at], token=token, path=path)
                assert sent.status not in (429, 503) or int(sent.headers["Retry-After"]) >= 1
                found.append(sent.status)
            return found

        async def round_of_hundred() -> Counter[int]:
            rounds = await asyncio.gather(*(one(number) for number in range(100)))
            return Counter(status for found in rounds for status in found)

        statuses = await round_of_hundred()
        before = process.memory_info().rss
        for _ in range(4):
            statuses += await round_of_hundred()
        assert set(statuses) <= {200, 202, 429, 503}
        assert {202, 429, 503} <= set(statuses)
        assert process.memory_info().rss - before < 48 * 2**20
        assert (gateway.uploads._clients, gateway.answers.places._free) == ({}, 60)


class _Alternating(LagLimits):
    """Refuses every tenth frame, as if the detectors were behind then."""

    asked = 0

    def require(self, topic: str, partition: int) -> None:
        self.asked += 1
        if self.asked % 10 == 0:
            self.update({TopicPartition(topic, partition): 1_000_000})
        elif self.asked % 10 == 1:
            self.update({TopicPartition(topic, partition): 0})
        super().require(topic, partition)


async def test_broker_that_hangs_leaves_frames_accepted_and_the_watch_ends(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(lag_watch, "_READ_S", 0.05)
    lag, stop = LagLimits(LimitsSettings(max_lag_frames=1)), asyncio.Event()
    watching = asyncio.create_task(LagWatch(_Hanging(), "detector", lag, 0.1).run(stop, Health().part("lag")))  # type: ignore[arg-type]
    await _until(lambda: "did not respond within" in caplog.text)
    lag.require(FRAMES_LIVE, 0)
    stop.set()
    await asyncio.wait_for(watching, 5)
    assert caplog.text.count("cannot be read") == 1


class _Hanging:
    async def admin(self) -> None:
        await asyncio.Event().wait()


class _Away:
    async def admin(self) -> None:
        raise ConnectionRefusedError("no broker")


async def _until(condition: Callable[[], bool]) -> None:
    for _ in range(500):
        if condition():
            return
        await asyncio.sleep(0.02)
    raise AssertionError("it never came true")
