"""A client that a program makes from the OpenAPI document completes a job."""

from __future__ import annotations

import asyncio
import json
import os
from collections.abc import Sequence
from pathlib import Path

import pytest

from infra.database.pool import Database
from tests.harnesses.job_site import JobSite, job_site
from tests.harnesses.uploads import picture
from tests.paths import ROOT

pytestmark = pytest.mark.integration

PROGRAMS = ROOT / ".venv-client" / "bin"
FOLDER = ROOT / "tests" / "client"


@pytest.fixture
def generator() -> Path:
    found = PROGRAMS / "openapi-python-client"
    if not found.exists():
        reason = "the generator of clients is not installed; run `make .venv-client/.done`"
        if os.environ.get("CI"):
            pytest.fail(reason)
        pytest.skip(reason)
    return found


async def test_a_generated_client_completes_a_job(generator: Path, tmp_path: Path, database: Database) -> None:
    """C-S2-072, C-S2-130."""
    async with job_site(tmp_path, database) as site:
        document, client, sent = (tmp_path / name for name in ("openapi.json", "client", "a.jpg"))
        document.write_bytes((await site.console.get("/openapi.json", key=None)).body)
        sent.write_bytes(picture("JPEG", 640, 480))
        config = FOLDER / "generator.yaml"
        how = ("generate", "--path", document, "--config", config, "--output-path", client, "--fail-on-warning")
        await output_of([str(generator), *map(str, how)], tmp_path)
        answering = asyncio.create_task(answer_all(site))
        script = [str(PROGRAMS / "python"), str(FOLDER / "complete_job.py"), site.console.url, site.console.key]
        try:
            printed = await output_of([*script, str(sent)], tmp_path, PYTHONPATH=str(client))
        finally:
            answering.cancel()
    assert json.loads(printed) == {
        "early": "RESULTS_NOT_READY",
        "status": "completed",
        "found": 1,
        "labels": "0 0.5 0.75 0.5 0.5 0.5\n",
        "results": "bird",
        "is_same": True,
        "thumbnail": "ffd8",
        "archive": "PK",
    }


async def answer_all(site: JobSite) -> None:
    while True:
        # Late enough for a question before the job is complete.
        await asyncio.sleep(0.5)
        await site.answer(*await site.publish())


async def output_of(command: Sequence[str], folder: Path, **variables: str) -> str:
    process = await asyncio.create_subprocess_exec(
        *command,
        cwd=folder,
        env={**os.environ, **variables},
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    try:
        printed, errors = await asyncio.wait_for(process.communicate(), 90)
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    assert process.returncode == 0, printed.decode()[-2_000:] + errors.decode()[-2_000:]
    return printed.decode()
