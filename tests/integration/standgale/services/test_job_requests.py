"""`standgale up` and the example requests of seed 2, typed as they are there: a job done by the model that ships."""

from __future__ import annotations

import asyncio
import json
import random
import shutil
import time
from collections.abc import AsyncIterator
from datetime import datetime
from io import BytesIO
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from bench.processes import Home
from infra.auth.tokens import ApiKeys
from infra.database.pool import Database
from training.scenes import SceneSpec, render_scene

pytestmark = [
    pytest.mark.integration,
    pytest.mark.skipif(shutil.which("curl") is None, reason="curl is not installed"),
]

BOX = {"format": str, "x_min": float, "y_min": float, "x_max": float, "y_max": float}
NORMALISED = {"format": str, "center_x": float, "center_y": float, "width": float, "height": float}
DETECTION = {"class_id": int, "class_name": str, "confidence": float, "bbox": BOX, "bbox_normalized": NORMALISED}
FILE = {"filename": str, "file_id": str, "size_bytes": int, "format": str, "dimensions": [int]}
PICTURE = {"file_id": str, "filename": str, "original_url": str, "annotated_url": str, "thumbnail_url": str}


class Terminal:
    """Types commands in a folder with two pictures; settings of curl add the key, and lead port 8000 to the server."""

    def __init__(self, folder: Path, port: int, key: str) -> None:
        self._folder = folder
        (folder / ".curlrc").write_text(
            f'header = "X-API-Key: {key}"\nconnect-to = "localhost:8000:127.0.0.1:{port}"\nsilent\nshow-error\n'
        )
        for number, name in enumerate(("image1.jpg", "image2.png")):
            out = BytesIO()
            scene = render_scene(SceneSpec(width=640, height=480, seed=number))
            Image.fromarray(scene.image).save(out, "JPEG" if name.endswith("jpg") else "PNG")
            (folder / name).write_bytes(out.getvalue())

        Image.frombytes("RGB", (2_000, 1_700), random.Random(1).randbytes(10_200_000)).save(folder / "large.tif")

    async def type(self, command: str) -> Any:
        """The JSON that a command prints."""
        process = await asyncio.create_subprocess_shell(
            command,
            cwd=self._folder,
            env={"CURL_HOME": str(self._folder), "PATH": "/usr/local/bin:/usr/bin:/bin"},
            stdout=asyncio.subprocess.PIPE,
        )
        printed, _ = await asyncio.wait_for(process.communicate(), 60)
        assert process.returncode == 0, command
        return json.loads(printed)


def require(value: Any, shape: Any, where: str = "body") -> None:
    """Fail where ``value`` has not the fields and types of ``shape``; it may have more fields."""
    if isinstance(shape, dict):
        assert isinstance(value, dict), where
        for name, inner in shape.items():
            assert name in value, f"{where} has no {name}"
            require(value[name], inner, f"{where}.{name}")
    elif isinstance(shape, list):
        assert isinstance(value, list) and value, where
        for each in value:
            require(each, shape[0], f"{where}[]")
    elif shape is datetime:
        assert datetime.fromisoformat(value).tzinfo is not None, where
    elif shape is float:
        assert type(value) in (int, float), where
    else:
        assert type(value) is shape, where


@pytest.fixture
async def terminal(tmp_path: Path, database: Database) -> AsyncIterator[Terminal]:
    key = await ApiKeys(database).add("desktop")
    home = Home(tmp_path, database, await database.dsn())
    async with home.standgale("up", port_setting="STANDGALE_GATEWAY__PORT") as server:
        yield Terminal(tmp_path, server.port, key)


async def test_the_requests_of_the_seed_have_responses_with_its_fields(terminal: Terminal) -> None:
    """C-S2-002, C-S2-027, C-S2-040, C-S2-043, C-S2-045, C-S2-051, C-S2-052, C-S2-054, C-S2-061, C-S2-062."""
    uploaded = await terminal.type(
        'curl -X POST http://localhost:8000/api/v1/inference/upload -F "files=@image1.jpg" -F "files=@image2.png"'
    )
    require(uploaded, {"status": str, "message": str, "data": {"upload_id": str, "uploaded_files": [FILE]}})
    assert [each["format"] for each in uploaded["data"]["uploaded_files"]] == ["JPEG", "PNG"]
    upload_id, file_id = uploaded["data"]["upload_id"], uploaded["data"]["uploaded_files"][0]["file_id"]
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
    times = {"created_at": datetime, "estimated_completion": datetime}
    require(accepted["data"], {"job_id": str, "status": str, **times, "file_count": int, "status_url": str})
    assert (accepted["status"], accepted["data"]["status"], accepted["data"]["file_count"]) == ("accepted", "queued", 1)
    job_id = accepted["data"]["job_id"]
    done = await ended(terminal, job_id)
    assert (done["status"], done["progress"]) == (
        "completed",
        {"total_images": 1, "processed_images": 1, "failed_images": 0, "percentage": 100},
    )
    summary = {"total_detections": int, "average_confidence": float, "processing_time_seconds": float}
    times = dict.fromkeys(("created_at", "updated_at", "started_at", "completed_at"), datetime)
    require(done, {"job_id": str, **times, "summary": summary, "results_url": str, "visualization_url": str})
    job = f"http://localhost:8000/api/v1/jobs/{job_id}"
    results = await terminal.type(f'curl "{job}/results?format=json"')
    require(results["data"], {"job_id": str, "format": str, "results": [{"detections": [DETECTION]}]})
    (found,) = results["data"]["results"]
    assert (found["file_id"], found["filename"]) == (file_id, "image1.jpg")
    assert found["detection_count"] == len(found["detections"]) == done["summary"]["total_detections"]
    pictures = await terminal.type(f'curl "{job}/visualization"')
    require(pictures["data"], {"job_id": str, "visualizations": [{**PICTURE, "detection_count": int}]})
    yolo = await terminal.type(f'curl "{job}/results?format=yolo"')
    require(yolo["data"]["files"], [{"file_id": str, "filename": str, "label_content": str, "download_url": str}])
    inline = await terminal.type(f'curl "{job}/visualization?format=base64&file_id={file_id}"')
    assert inline["data"]["original_image"].startswith("data:image/jpeg;base64,/9j/")
    assert inline["data"]["annotated_image"].startswith("data:image/jpeg;base64,/9j/")
    missing = await terminal.type("curl http://localhost:8000/api/v1/jobs/job_abc123xyz789/status")
    require(missing, {"status": str, "message": str, "error_code": str, "error": {"code": str, "request_id": str}})
    assert missing["error_code"] == "JOB_NOT_FOUND"
    # C-S2-121: 10 MB are uploaded in less than 3 s, and one picture is done in less than 60 s.
    assert done["summary"]["processing_time_seconds"] < 60
    began = time.monotonic()
    large = await terminal.type("curl -X POST http://localhost:8000/api/v1/inference/upload -F files=@large.tif")
    assert large["data"]["uploaded_files"][0]["size_bytes"] > 10_000_000
    assert time.monotonic() - began < 3


async def ended(terminal: Terminal, job_id: str) -> dict[str, Any]:
    """The status of a job at its end."""
    async with asyncio.timeout(60):
        while True:
            body = await terminal.type(f"curl http://localhost:8000/api/v1/jobs/{job_id}/status")
            require(body, {"status": str, "data": {"progress": {"total_images": int, "percentage": float}}})
            if body["data"]["status"] not in ("queued", "processing"):
                return dict(body["data"])
            await asyncio.sleep(0.2)
