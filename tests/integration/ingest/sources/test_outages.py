"""Pulls RTSP cameras by TCP and UDP over a restart of their servers; the long run is tests/campaign/video.py."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.harnesses.camera_outages import Outages, pull_through_outages
from tests.servers.rtsp import require_gstreamer

pytestmark = pytest.mark.integration


async def test_every_frame_of_restarted_cameras_arrives_in_order_or_is_counted(
    migrated_dsn: str, tmp_path: Path
) -> None:
    """C-S3-047."""
    require_gstreamer()
    account = await pull_through_outages(tmp_path, migrated_dsn, Outages(seconds=9.0, restarts=1, away_s=1.0, rate=10))
    assert account.problems(1) == []
    assert min(camera.frames for camera in account.cameras) > 40
