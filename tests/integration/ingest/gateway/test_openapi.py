"""Runs schemathesis against a running gateway: the OpenAPI document is complete and right (C-S2-072, I13)."""

from __future__ import annotations

import asyncio
import os
import re
import sys
from pathlib import Path

import pytest

from infra.database.pool import Database
from ingest.flights.postgres import PostgresFlights
from ingest.limits.settings import LimitsSettings
from ingest.settings import GatewaySettings
from tests.harnesses.openapi_check import check_document, failures_of, output_of
from tests.servers.gateway import TOKEN, running

pytestmark = pytest.mark.integration

CONFIGURATION = Path(__file__).with_name("schemathesis.toml")


async def test_openapi_document_agrees_with_the_responses(tmp_path: Path, database: Database) -> None:
    async with database.acquire() as connection:
        await connection.execute("INSERT INTO devices (device_id) VALUES ('drone-1')")
    flights = PostgresFlights(database, max_open=10_000)
    # The detectors are missing, so that each wait lasts until its limit; guesses of tokens are a part of the checks.
    settings = GatewaySettings(answer_timeout_s=0.05, batch_timeout_s=0.5, body_timeout_s=2.0)
    limits = LimitsSettings(bad_tokens_per_minute=0)
    async with running(tmp_path, settings, limits=limits, flights=flights) as gateway:
        status, output = await check_document(
            f"{gateway.url}/openapi.json", CONFIGURATION, tmp_path, f"X-API-Token: {TOKEN}"
        )
        paths = (await gateway.send(b"", method="GET", path="/openapi.json", token=None, params={})).json["paths"]
    count = sum(len(methods) for methods in paths.values())
    assert status == 0, failures_of(output)
    assert f"Tested: {count}" in output
    generated = re.search(r"(\d+) generated", output)
    assert generated is not None
    assert int(generated[1]) > 300


async def test_a_checker_that_does_not_end_is_killed(tmp_path: Path) -> None:
    endless = "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); print('begun', flush=True)"
    began = asyncio.get_running_loop().time()
    with pytest.raises(TimeoutError):
        await output_of((sys.executable, "-c", f"{endless}; time.sleep(600)"), tmp_path, dict(os.environ), 0.5)
    assert asyncio.get_running_loop().time() - began < 10
