"""Runs schemathesis against a running gateway: the OpenAPI document is complete and right (C-S2-072, I13)."""

from __future__ import annotations

import asyncio
import os
import re
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

import pytest

from infra.database.pool import Database
from ingest.flights.postgres import PostgresFlights
from ingest.limits.settings import LimitsSettings
from ingest.settings import GatewaySettings
from tests.paths import ROOT
from tests.servers.gateway import TOKEN, running

pytestmark = pytest.mark.integration

CONFIGURATION = Path(__file__).with_name("schemathesis.toml")
# It takes some 15 s; --max-time is no limit, but how long it goes on looking.
KILLED_AFTER_S = 120.0


async def test_openapi_document_agrees_with_the_responses(tmp_path: Path, database: Database) -> None:
    async with database.acquire() as connection:
        await connection.execute("INSERT INTO devices (device_id) VALUES ('drone-1')")
    flights = PostgresFlights(database, max_open=10_000)
    # The detectors are missing, so that each wait lasts until its limit; guesses of tokens are a part of the checks.
    settings = GatewaySettings(answer_timeout_s=0.05, batch_timeout_s=0.5, body_timeout_s=2.0)
    limits = LimitsSettings(bad_tokens_per_minute=0)
    async with running(tmp_path, settings, limits=limits, flights=flights) as gateway:
        status, output = await _run(f"{gateway.url}/openapi.json", tmp_path)
        paths = (await gateway.send(b"", method="GET", path="/openapi.json", token=None, params={})).json["paths"]
    count = sum(len(methods) for methods in paths.values())
    assert status == 0, _failures(output)
    assert f"Tested: {count}" in output
    generated = re.search(r"(\d+) generated", output)
    assert generated is not None
    assert int(generated[1]) > 300


async def test_a_checker_that_does_not_end_is_killed(tmp_path: Path) -> None:
    endless = "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); print('begun', flush=True)"
    began = asyncio.get_running_loop().time()
    with pytest.raises(TimeoutError):
        await _output_of((sys.executable, "-c", f"{endless}; time.sleep(600)"), tmp_path, dict(os.environ), 0.5)
    assert asyncio.get_running_loop().time() - began < 10


async def _run(address: str, folder: Path) -> tuple[int, str]:
    command = (
        *(sys.executable, "-m", "schemathesis.cli", "--config-file", str(CONFIGURATION), "run", address),
        *("--header", f"X-API-Token: {TOKEN}", "--phases", "examples,coverage,fuzzing", "--max-examples", "2"),
        *("--seed", "1", "--request-timeout", "5", "--no-color", "--workers", "1", "--no-shrink", "--warnings", "off"),
    )
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "SCHEMATHESIS_HOOKS": "tests.harnesses.openapi_data"}
    return await _output_of(command, folder, environment, KILLED_AFTER_S)


async def _output_of(
    command: Sequence[str], folder: Path, environment: Mapping[str, str], most_s: float
) -> tuple[int, str]:
    # It keeps what it has found in a folder of the working directory.
    process = await asyncio.create_subprocess_exec(
        *command,
        cwd=folder,
        env=environment,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    try:
        async with asyncio.timeout(most_s):
            output, _ = await process.communicate()
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    assert process.returncode is not None
    return process.returncode, output.decode(errors="replace")


def _failures(output: str) -> str:
    """Return the failures without the bytes of pictures."""
    return "\n".join(line[:300] for line in output.splitlines() if line.strip())[-8_000:]
