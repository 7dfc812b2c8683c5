"""The example requests of seed 2, typed as they stand there, from the upload to the pictures."""

from __future__ import annotations

import asyncio
import json
import shutil
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from infra.database.pool import Database
from tests.harnesses.job_site import JobSite, job_site
from tests.harnesses.uploads import picture

pytestmark = [
    pytest.mark.integration,
    pytest.mark.skipif(shutil.which("curl") is None, reason="curl is not installed"),
]


@pytest.fixture
async def site(tmp_path: Path, database: Database) -> AsyncIterator[JobSite]:
    async with job_site(tmp_path, database) as found:
        yield found


class Terminal:
    """A folder with two pictures in which commands are typed; the key is in the settings of curl."""

    def __init__(self, site: JobSite, folder: Path) -> None:
        self._site = site
        self._folder = folder
        (folder / ".curlrc").write_text(f'header = "X-API-Key: {site.console.key}"\nsilent\nshow-error\n')
        (folder / "image1.jpg").write_bytes(picture("JPEG", 640, 480))
        (folder / "image2.png").write_bytes(picture("PNG", 320, 200))

    async def type(self, command: str) -> Any:
        """The JSON that a command prints."""
        command = command.replace("http://localhost:8000", self._site.console.url)
        process = await asyncio.create_subprocess_shell(
            command,
            cwd=self._folder,
            env={"CURL_HOME": str(self._folder), "PATH": "/usr/local/bin:/usr/bin:/bin"},
            stdout=asyncio.subprocess.PIPE,
        )
        printed, _ = await asyncio.wait_for(process.communicate(), 60)
        assert process.returncode == 0, command
        return json.loads(printed)


async def test_the_example_requests_take_a_picture_from_upload_to_results(site: JobSite, tmp_path: Path) -> None:
    """C-S2-001, C-S2-020, C-S2-040, C-S2-050, C-S2-060."""
    terminal = Terminal(site, tmp_path)
    uploaded = await terminal.type(
        'curl -X POST http://localhost:8000/api/v1/inference/upload -F "files=@image1.jpg" -F "files=@image2.png"'
    )
    assert uploaded["message"] == "2 images uploaded successfully"
    upload_id = uploaded["data"]["upload_id"]
    file_id = uploaded["data"]["uploaded_files"][0]["file_id"]
    accepted = await terminal.type(
        f"""curl -X POST http://localhost:8000/api/v1/inference/predict \\
  -H "Content-Type: application/json" \\
  -d '{{
    "upload_id": "{upload_id}",
    "file_ids": ["{file_id}"],
    "config": {{
      "confidence_threshold": 0.25,
      "sahi": {{"enabled": true}}
    }}
  }}'"""
    )
    assert (accepted["status"], accepted["data"]["file_count"]) == ("accepted", 1)
    job_id = accepted["data"]["job_id"]
    status = f"curl http://localhost:8000/api/v1/jobs/{job_id}/status"
    assert (await terminal.type(status))["data"]["status"] == "queued"
    await site.answer(*await site.publish())
    assert (await terminal.type(status))["data"]["status"] == "completed"
    results = await terminal.type(f'curl "http://localhost:8000/api/v1/jobs/{job_id}/results?format=json"')
    (result,) = results["data"]["results"]
    assert (result["filename"], result["detection_count"]) == ("image1.jpg", 1)
    pictures = await terminal.type(f'curl "http://localhost:8000/api/v1/jobs/{job_id}/visualization"')
    assert pictures["data"]["visualizations"][0]["original_url"] == f"/api/v1/files/{file_id}/original"
