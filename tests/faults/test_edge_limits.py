"""The edge client on a full disk, and after an outage: live frames first, then the backlog."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path

import pytest

from tests.campaign.disk import mount_small_disk
from tests.harnesses.edge_process import EdgeProcess, captured_at, small_jpeg
from tests.harnesses.fault_proxy import fault_proxy
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
        frames = await gateway.frames()
        assert len({frame.frame_id for frame in frames}) == 40
        assert list(edge.folder.iterdir()) == []
        assert "the spool has no room; files stay" in edge.logged()


async def test_live_frames_come_first_after_an_outage(tmp_path: Path) -> None:
    """Both are in order among themselves, live frames wait for seconds at most, and the backlog goes on meanwhile."""
    with GatewayProcess(tmp_path / "gateway") as gateway:
        async with fault_proxy(gateway.url) as proxy:
            await proxy.close()
            edge = EdgeProcess(tmp_path / "camera", tmp_path / "spool", proxy.url)
            edge.environment = {
                "STANDGALE_EDGE__LIVE_S": "2",
                "STANDGALE_EDGE__BACKLOG_SHARE": "0.5",
                "STANDGALE_EDGE__MAX_BYTES_PER_S": "60000",
            }
            for number in range(100):
                edge.write(number)
            edge.start("--delete")
            try:
                await edge.wait_until(lambda found: found.frames == 100)
                await asyncio.sleep(2.1)
                await proxy.open()
                waits = []
                for number in range(100, 108):
                    edge.write(number)
                    began = time.monotonic()
                    await _until_arrived(gateway, number)
                    waits.append(time.monotonic() - began)
                during = edge.status().frames
                await edge.wait_until(lambda found: found.state.counts.sent == 108 and not found.frames, 60)
                assert edge.stop() == 0
            finally:
                edge.kill()
        arrived = [frame.captured_at for frame in await gateway.frames()]
    backlog = [moment for moment in arrived if moment < captured_at(100)]
    live = [moment for moment in arrived if moment >= captured_at(100)]
    assert backlog == [captured_at(number) for number in range(100)]
    assert live == [captured_at(number) for number in range(100, 108)]
    assert max(waits) < 2.0, waits
    assert during > 0
    # The last live frame arrived before the end of the backlog, and frames of the backlog between the live ones.
    assert arrived.index(captured_at(107)) < len(arrived) - 1
    assert arrived.index(captured_at(107)) > 7


async def _until_arrived(gateway: GatewayProcess, number: int) -> None:
    async with asyncio.timeout(30):
        while captured_at(number) not in {frame.captured_at for frame in await gateway.frames()}:  # noqa: ASYNC110 (a file)
            await asyncio.sleep(0.05)
