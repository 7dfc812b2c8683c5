"""A bucket with pictures and a model for inference jobs, a receiver of their call-backs, and their processes."""

from __future__ import annotations

import asyncio
import json
import os
import sys
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from uuid import uuid4

import cv2
import numpy as np
from aiohttp import web

from console.inference_settings import InferenceJobsSettings
from infra.deploy.s3 import S3Server
from infra.storage.s3_address import S3Address
from infra.storage.s3_objects import S3Objects
from standgale.testing.graphs import COLOURS_BGR, write_model
from tests.servers.http import serving

BOX = (60.0, 40.0, 100.0, 60.0)
"""Where the red rectangle of each picture is"""


def scene(red: bool = True) -> bytes:
    """A grey picture, with a red rectangle that the model finds."""
    image = np.full((160, 200, 3), 90, np.uint8)
    if red:
        image[40:60, 60:100] = COLOURS_BGR[0]
    done, data = cv2.imencode(".png", image)
    assert done
    return data.tobytes()


def jobs_settings(server: S3Server, **changes: Any) -> InferenceJobsSettings:
    """Settings for the bucket of the server."""
    fields: dict[str, Any] = {
        "endpoint_url": server.endpoint_url,
        "access_key": server.access_key,
        "secret_key": server.secret_key,
        "bucket": server.bucket,
        "buckets": (server.bucket,),
        "poll_s": 0.1,
        "lease_s": 2.0,
    }
    return InferenceJobsSettings.model_validate(fields | changes)


@dataclass
class Site:
    """A folder of a test's own in the bucket."""

    server: S3Server
    objects: S3Objects
    folder: S3Address

    async def put(self, name: str, data: bytes) -> str:
        address = self.folder.beside(name)
        await self.objects.put(address, data, "application/octet-stream")
        return str(address)

    async def put_pictures(self, count: int = 2, folder: str = "pictures") -> str:
        """Put pictures; return the address of their folder."""
        for number in range(count):
            await self.put(f"{folder}/img_{number:03}.png", scene(red=number == 0))
        return str(self.folder.beside(f"{folder}/"))

    async def put_model(self, tmp_path: Path, *, with_card: bool = True) -> str:
        """Put a model; return the address of its ONNX file."""
        card = write_model(tmp_path / "model")
        if with_card:
            await self.put("model/model.yaml", card.read_bytes())
        return await self.put("model/model.onnx", (card.parent / "model.onnx").read_bytes())

    async def read(self, address: str, tmp_path: Path) -> Any:
        async with self.objects.local(S3Address.parse(address), tmp_path, 10_000_000) as path:
            return json.loads(path.read_bytes())

    def variables(self, **changes: str) -> dict[str, str]:
        """Return the variables of one process: those that are the same for each, and ``changes``."""
        fixed = {
            "INFERENCE_JOB_ID": "456",
            "OUTPUT_PATH": str(self.folder.beside("results/")),
            "AWS_ENDPOINT_URL": self.server.endpoint_url,
            "AWS_ACCESS_KEY_ID": self.server.access_key,
            "AWS_SECRET_ACCESS_KEY": self.server.secret_key,
            "LOKI_URL": "http://loki:3100",
        }
        return {name: value for name, value in {**fixed, **changes}.items() if value}


@asynccontextmanager
async def site(server: S3Server) -> AsyncIterator[Site]:
    objects = S3Objects(jobs_settings(server), "the test")
    try:
        yield Site(server, objects, S3Address(server.bucket, f"t-{uuid4().hex}/"))
    finally:
        await objects.close()


@dataclass
class Receiver:
    """Receives call-backs; answers with ``statuses`` one after the other, then with 200."""

    url: str = ""
    statuses: list[int] = field(default_factory=list)
    posted: list[dict[str, Any]] = field(default_factory=list)
    tokens: list[str] = field(default_factory=list)

    async def handle(self, request: web.Request) -> web.Response:
        self.posted.append(await request.json())
        self.tokens.append(request.headers.get("Authorization", ""))
        return web.json_response({}, status=self.statuses.pop(0) if self.statuses else 200)


@asynccontextmanager
async def receiver(*statuses: int) -> AsyncIterator[Receiver]:
    found = Receiver(statuses=list(statuses))
    async with serving(found.handle) as url:
        found.url = f"{url}/api/v1/test_inference/inference/456/results"
        yield found


def base_environment(tmp_path: Path) -> dict[str, str]:
    """What the process of a job has besides its variables."""
    passed = ("PATH", "HOME", "PYTHONPATH", "LANG")
    found = {name: os.environ[name] for name in passed if name in os.environ}
    return {**found, "STANDGALE_DATA_DIR": str(tmp_path / "data"), "STANDGALE_RETRY__FIRST_DELAY_S": "0.05"}


async def predict(tmp_path: Path, variables: Mapping[str, str]) -> tuple[int, str]:
    """Run `standgale predict`; return its status and what it wrote."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-P", "-m", "standgale", "predict"),
        env={**base_environment(tmp_path), **variables},
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    try:
        async with asyncio.timeout(120):
            output, _ = await process.communicate()
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    assert process.returncode is not None
    return process.returncode, output.decode()
