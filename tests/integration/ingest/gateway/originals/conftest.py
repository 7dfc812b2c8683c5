"""Runs the gateway with originals, in a folder and in S3."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from infra.deploy.s3 import S3Server
from infra.storage.settings import FrameSettings
from tests.servers.gateway import Gateway
from tests.servers.originals import gateway_on


@pytest.fixture(params=["folder", "s3"])
async def gateway(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Gateway]:
    if request.param == "folder":
        frames = FrameSettings(folder=tmp_path / "frames", min_free_bytes=0)
    else:
        server: S3Server = request.getfixturevalue("s3_server")
        frames = server.settings(prefix=f"originals-{os.urandom(6).hex()}", timeout_s=5.0)
    async with gateway_on(frames, tmp_path) as started:
        yield started


@pytest.fixture
async def folder_gateway(tmp_path: Path) -> AsyncIterator[Gateway]:
    async with gateway_on(FrameSettings(folder=tmp_path / "frames", min_free_bytes=0), tmp_path) as started:
        yield started
