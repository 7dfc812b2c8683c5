"""The edge client on a full disk, and after an outage: live frames first, then the backlog."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from schemas.topics import FRAMES_BACKFILL
from tests.campaign.disk import mount_small_disk
from tests.harnesses.edge_backlog import send_live_frames_during_backlog
from tests.harnesses.edge_process import EdgeProcess, small_jpeg
from tests.servers.gateway_process import GatewayProcess

pytestmark = [pytest.mark.integration, pytest.mark.faults]


def fill(edge: EdgeProcess, numbers: range, size: int) -> None:
    """Write pictures of ``size`` bytes: the JPEG, and zeros that follow its end."""
    for number in numbers:
        path = edge.folder / f"{number:06d}.jpg"
        path.with_suffix(".part").write_bytes(small_jpeg(number).ljust(size, b"\0"))
        path.with_suffix(".part").rename(path)


async def test_full_disk_leaves_pictures_in_the_folder_until_there_is_space(server_dir: Path) -> None:
    """The spool is on a disk of 4 MB, and 8 MB of pictures come while the gateway is away."""
    with GatewayProcess(server_dir / "gateway") as gateway, mount_small_disk(server_dir / "disk", 4) as disk:
        if disk is None:
            pytest.skip("mounting a disk is not allowed here")
        gateway.kill()
        edge = EdgeProcess(server_dir / "camera", disk.folder / "spool", gateway.url)
        edge.log = server_dir / "edge.log"
        fill(edge, range(40), 200_000)
        edge.start("--delete")
        try:
            full = await edge.wait_until(lambda found: "no room" in (found.state.source_problem or ""))
            assert 10 < full.frames <= 20
            assert len(list(edge.folder.iterdir())) == 40 - full.frames
            edge.kill()
            edge.start("--delete")
            await asyncio.to_thread(gateway.start)
            await edge.wait_until(lambda found: not found.frames and not list(edge.folder.iterdir()), 60)
            assert edge.stop() == 0
        finally:
            edge.kill()
        frames = [*await gateway.frames(), *await gateway.frames(FRAMES_BACKFILL)]
        assert len({frame.frame_id for frame in frames}) == 40
        assert list(edge.folder.iterdir()) == []
        assert "the spool has no room; files stay" in edge.logged()


async def test_live_frames_come_first_after_an_outage(tmp_path: Path) -> None:
    """Live frames and the backlog are each in order; live frames wait for a moment, and the backlog goes on."""
    limits = {"backlog_share": "0.5", "max_bytes_per_s": "40000", "live_s": "5"}
    waits = await send_live_frames_during_backlog(tmp_path, 60, 6, interval_s=0.3, **limits)
    assert waits.backlog_in_order
    assert waits.live_in_order
    assert waits.backlog_in_backfill
    assert max(waits.seconds) < 2.0, waits
    assert 6 <= waits.sent_during < 60, waits
