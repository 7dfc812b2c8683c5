"""Inference jobs of a real console that is killed while one runs."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from infra.auth.tokens import ApiKeys
from infra.database.pool import Database
from infra.deploy.ports import free_port
from infra.deploy.s3 import S3Server
from standgale.children import run_child, standgale_command
from tests.harnesses.inference import base_environment, site

pytestmark = pytest.mark.integration

PATH = "/api/v1/test_inference/inference/jobs"


@asynccontextmanager
async def console(environment: dict[str, str], folder: Path) -> AsyncIterator[tuple[str, int]]:
    """Run a console as a process; yield its address and its number."""
    port, health = free_port(), free_port()
    ports = {"STANDGALE_CONSOLE__PORT": str(port), "STANDGALE_TELEMETRY__HEALTH_PORT": str(health)}
    ready = f"http://127.0.0.1:{health}/health/ready"
    async with run_child(standgale_command("console"), {**environment, **ports}, folder / "log", ready) as process:
        yield f"http://127.0.0.1:{port}", process.pid


def children_of(process: int) -> list[int]:
    texts = [path.read_text() for path in Path(f"/proc/{process}/task").glob("*/children")]
    return [int(each) for text in texts for each in text.split() if is_predict(int(each))]


def is_predict(process: int) -> bool:
    try:
        return b"predict" in Path(f"/proc/{process}/cmdline").read_bytes()
    except FileNotFoundError:
        return False


async def test_a_killed_console_takes_its_process_along_and_the_next_does_the_job(
    tmp_path: Path, database: Database, shared_dsn: str, s3_server: S3Server
) -> None:
    """C-S4-047, C-S4-062."""
    environment = {
        **base_environment(tmp_path),
        "STANDGALE_DATABASE__URL": shared_dsn,
        "STANDGALE_INFERENCE_JOBS__BUCKET": s3_server.bucket,
        "STANDGALE_INFERENCE_JOBS__BUCKETS": s3_server.bucket,
        "STANDGALE_INFERENCE_JOBS__ENDPOINT_URL": s3_server.endpoint_url,
        "STANDGALE_INFERENCE_JOBS__ACCESS_KEY": s3_server.access_key,
        "STANDGALE_INFERENCE_JOBS__SECRET_KEY": s3_server.secret_key,
        "STANDGALE_INFERENCE_JOBS__LEASE_S": "1",
        "STANDGALE_INFERENCE_JOBS__POLL_S": "0.1",
    }
    headers = {"X-API-Key": await ApiKeys(database).add("desktop")}
    async with site(s3_server) as place, aiohttp.ClientSession(headers=headers) as http:
        asked: dict[str, Any] = {
            "checkpoint_path": await place.put_model(tmp_path),
            "inference_type": "batch",
            "input_data": {"image_paths": [await place.put_pictures(2)]},
        }
        async with console(environment, tmp_path) as (url, process), asyncio.timeout(60):
            async with http.post(url + PATH, json=asked) as response:
                job = (await response.json())["id"]
            while not (children := children_of(process)):  # noqa: ASYNC110 (another process has no event)
                await asyncio.sleep(0.01)
            os.kill(process, signal.SIGKILL)
            while any(is_predict(child) for child in children):  # noqa: ASYNC110 (as above)
                await asyncio.sleep(0.02)
        async with console(environment, tmp_path) as (url, _), asyncio.timeout(60):
            found: dict[str, Any] = {}
            while found.get("status") not in ("completed", "failed"):
                async with http.get(f"{url}{PATH}/{job}") as response:
                    found = await response.json()
                await asyncio.sleep(0.05)
            async with http.get(f"{url}{PATH}/{job}/results") as response:
                rows = await response.json()
    assert (found["status"], found["total_images"], len(rows)) == ("completed", 2, 2)
    async with database.acquire() as connection:
        assert await connection.fetchval("SELECT attempts FROM inference_jobs WHERE id = $1", job) == 2
