"""Inference jobs run by the console as child processes: whole jobs, killed children, restarted consoles."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from console.inference_jobs.process import ProcessLauncher, s3_variables
from console.inference_jobs.runner import InferenceJobRunner
from infra.auth.tokens import ApiKeys
from infra.database.pool import Database
from infra.deploy.s3 import S3Server
from infra.encryption.box import SecretBox
from infra.failure.settings import RetrySettings
from infra.process.health import Health
from tests.harnesses.inference import Site, base_environment, jobs_settings, site
from tests.servers.console import RunningConsole, running_console

pytestmark = pytest.mark.integration

PATH = "/api/v1/test_inference/inference"
PREDICT = (sys.executable, "-P", "-m", "standgale", "predict", "--stop-at-end-of-input")
HANGS = (sys.executable, "-c", "import sys; sys.stdin.read()")


@pytest.fixture
async def place(s3_server: S3Server) -> AsyncIterator[Site]:
    async with site(s3_server) as found:
        yield found


@pytest.fixture
async def console(tmp_path: Path, database: Database, s3_server: S3Server) -> AsyncIterator[RunningConsole]:
    async with running_console(tmp_path, database, inference=jobs_settings(s3_server)) as found:
        yield found


@asynccontextmanager
async def running_jobs(
    console: RunningConsole, tmp_path: Path, command: Sequence[str] = PREDICT, **changes: Any
) -> AsyncIterator[InferenceJobRunner]:
    """Run the component that a console has for its jobs; ``command`` is started for each."""
    settings = console.parts.objects.settings.model_copy(update=changes)
    environment = {**base_environment(tmp_path), **s3_variables(settings, {})}
    launcher = ProcessLauncher(command, environment)
    box, retry = SecretBox([bytes(32)]), RetrySettings(first_delay_s=0.05)
    runner = InferenceJobRunner(console.database, box, settings, retry, launcher, console.url)
    stop = asyncio.Event()
    task = asyncio.create_task(runner.run(stop, Health().part("inference-jobs")))
    try:
        yield runner
    finally:
        stop.set()
        await task


async def add(console: RunningConsole, images: str, model: str) -> int:
    asked = {"checkpoint_path": model, "inference_type": "batch", "input_data": {"image_paths": [images]}}
    response = await console.post(f"{PATH}/jobs", json=asked)
    assert response.status == 201, response.body
    return int(response.json["id"])


async def job_when(console: RunningConsole, job: int, wanted: Callable[[dict[str, Any]], bool]) -> dict[str, Any]:
    """The job once it is as ``wanted``."""
    async with asyncio.timeout(90):
        while True:
            found: dict[str, Any] = (await console.get(f"{PATH}/jobs/{job}")).json
            if wanted(found):
                return found
            await asyncio.sleep(0.05)


def ended(job: dict[str, Any]) -> bool:
    return job["status"] in ("completed", "failed")


def running(job: dict[str, Any]) -> bool:
    return bool(job["status"] == "running")


def children() -> set[int]:
    """The child processes of this process."""
    return {int(text) for text in Path(f"/proc/{os.getpid()}/task/{os.getpid()}/children").read_text().split()}


async def child_after(before: set[int]) -> int:
    end = asyncio.get_running_loop().time() + 30
    while asyncio.get_running_loop().time() < end:
        if new := children() - before:
            return new.pop()
        await asyncio.sleep(0.02)
    raise AssertionError("no child process was started")


async def test_a_job_runs_as_a_process_and_its_results_stay(
    console: RunningConsole, place: Site, tmp_path: Path, database: Database
) -> None:
    """C-S4-017, C-S4-047, C-S4-062: its environment alone says what to do; another console shows the same results."""
    job = await add(console, await place.put_pictures(), await place.put_model(tmp_path))
    async with running_jobs(console, tmp_path):
        found = await job_when(console, job, ended)
    assert (found["status"], found["total_images"], found["error_message"]) == ("completed", 2, None)
    assert found["started_at"] is not None
    rows = (await console.get(f"{PATH}/jobs/{job}/results")).json
    assert [(row["image_name"], row["num_detections"]) for row in rows] == [("img_000.png", 1), ("img_001.png", 0)]
    written = await place.read(f"s3://standgale/inference/{job}/results/results.json", tmp_path)
    assert written["total_images"] == 2
    await ApiKeys(database).revoke("desktop")
    async with running_console(tmp_path / "other", database, inference=console.parts.objects.settings) as other:
        assert (await other.get(f"{PATH}/jobs/{job}/results")).json == rows


async def test_a_job_that_cannot_be_done_has_the_reason(console: RunningConsole, place: Site, tmp_path: Path) -> None:
    """C-S4-036."""
    job = await add(console, str(place.folder), "model:none@1.0.0")
    async with running_jobs(console, tmp_path):
        found = await job_when(console, job, ended)
    assert (found["status"], found["error_message"]) == ("failed", found["error_message"])
    assert "there are no pictures" in found["error_message"]


async def test_a_killed_process_is_started_again_and_then_the_job_fails(
    console: RunningConsole, tmp_path: Path
) -> None:
    """C-S4-036, C-S4-062: no job stays running for ever."""
    job = await add(console, "s3://standgale/a/", "model:none@1.0.0")
    async with running_jobs(console, tmp_path, HANGS, attempts=2):
        for _ in range(2):
            before = children()
            child = await child_after(before)
            os.kill(child, signal.SIGKILL)
        found = await job_when(console, job, ended)
    assert found["status"] == "failed"
    assert "SIGKILL" in found["error_message"]
    assert "started 2 times" in found["error_message"]


async def test_a_job_of_a_console_that_was_lost_is_started_by_another(
    console: RunningConsole, place: Site, tmp_path: Path
) -> None:
    """C-S4-047: a lease that ends frees the job; its status stays running until its results come."""
    job = await add(console, await place.put_pictures(1), await place.put_model(tmp_path))
    async with console.database.acquire() as connection:
        await connection.execute(
            "UPDATE inference_jobs SET status = 'running', attempts = 1, started_at = now(), "
            "runner = gen_random_uuid(), leased_until = now() + interval '0.5 s'"
        )
    async with running_jobs(console, tmp_path):
        found = await job_when(console, job, ended)
    assert (found["status"], found["total_images"]) == ("completed", 1)


async def test_a_console_that_stops_gives_its_jobs_back(console: RunningConsole, place: Site, tmp_path: Path) -> None:
    """C-S4-062: its children end with it, and the next console starts the job again, as the first time."""
    job = await add(console, await place.put_pictures(1), await place.put_model(tmp_path))
    before = children()
    async with running_jobs(console, tmp_path, HANGS):
        await job_when(console, job, running)
        child = await child_after(before)
    assert child not in children()
    async with console.database.acquire() as connection:
        row = await connection.fetchrow("SELECT status, attempts, leased_until FROM inference_jobs WHERE id = $1", job)
    assert row is not None
    assert tuple(row) == ("running", 0, None)
    async with running_jobs(console, tmp_path):
        assert (await job_when(console, job, ended))["status"] == "completed"


async def test_a_job_that_runs_too_long_is_ended(console: RunningConsole, tmp_path: Path) -> None:
    job = await add(console, "s3://standgale/a/", "model:none@1.0.0")
    before = children()
    async with running_jobs(console, tmp_path, HANGS, time_limit_s=0.5):
        found = await job_when(console, job, ended)
        assert children() <= before
    assert (found["status"], "inference_jobs.time_limit_s" in found["error_message"]) == ("failed", True)


async def test_so_many_jobs_run_at_once(console: RunningConsole, tmp_path: Path) -> None:
    jobs = [await add(console, "s3://standgale/a/", "model:none@1.0.0") for _ in range(3)]
    async with running_jobs(console, tmp_path, HANGS, at_once=2, lease_s=1.0):
        for job in jobs[:2]:
            await job_when(console, job, running)
        # Longer than a lease: those that are renewed are not started twice.
        await asyncio.sleep(1.5)
        assert (await console.get(f"{PATH}/jobs/{jobs[2]}")).json["status"] == "pending"
        async with console.database.acquire() as connection:
            attempts = await connection.fetch("SELECT attempts FROM inference_jobs ORDER BY id")
    assert [row["attempts"] for row in attempts] == [1, 1, 0]


async def test_two_consoles_run_a_job_once(console: RunningConsole, place: Site, tmp_path: Path) -> None:
    job = await add(console, await place.put_pictures(1), await place.put_model(tmp_path))
    async with running_jobs(console, tmp_path), running_jobs(console, tmp_path):
        await job_when(console, job, ended)
    async with console.database.acquire() as connection:
        assert await connection.fetchval("SELECT attempts FROM inference_jobs WHERE id = $1", job) == 1
        assert await connection.fetchval("SELECT count(*) FROM inference_results") == 1


async def test_a_process_whose_job_another_console_runs_is_ended(
    console: RunningConsole, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """C-S4-062: the console goes on with other jobs."""
    monkeypatch.setattr("console.inference_jobs.runner._GRACE_S", 0.1)
    job = await add(console, "s3://standgale/a/", "model:none@1.0.0")
    before = children()
    async with running_jobs(console, tmp_path, HANGS, lease_s=0.6):
        child = await child_after(before)
        await job_when(console, job, running)
        async with console.database.acquire() as connection:
            await connection.execute(
                "UPDATE inference_jobs SET runner = gen_random_uuid(), leased_until = now() + interval '1 h'"
            )
        while child in children():  # noqa: ASYNC110 (another process has no event)
            await asyncio.sleep(0.05)
        following = await add(console, "s3://standgale/a/", "model:none@1.0.0")
        assert (await job_when(console, following, running))["status"] == "running"
    assert (await console.get(f"{PATH}/jobs/{job}")).json["status"] == "running"


async def test_a_lease_of_a_clock_that_was_set_back_keeps_no_job_waiting(
    console: RunningConsole, tmp_path: Path
) -> None:
    """The clock of the database was a day ahead when a console took the job, and was killed."""
    await add(console, "s3://standgale/a/", "model:none@1.0.0")
    async with console.database.acquire(writing=True) as connection:
        await connection.execute(
            "UPDATE inference_jobs SET status = 'running', leased_until = now() + interval '1 day'"
        )
    before = children()
    async with running_jobs(console, tmp_path, HANGS):
        assert await child_after(before)


async def test_a_job_whose_secret_cannot_be_read_has_failed(console: RunningConsole, tmp_path: Path) -> None:
    job = await add(console, "s3://standgale/a/", "model:none@1.0.0")
    async with console.database.acquire() as connection:
        await connection.execute("UPDATE inference_jobs SET callback_token = 'of another key'")
    async with running_jobs(console, tmp_path, HANGS):
        found = await job_when(console, job, ended)
    assert (found["status"], "encryption.keys" in found["error_message"]) == ("failed", True)
