"""Pulls RTSP cameras for some time while their servers are killed and started again, and accounts for every frame."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from pathlib import Path

from schemas.events import FrameCaptured
from tests.harnesses.source_site import SourceProcess, source_site
from tests.servers.rtsp import CAMERA, RtspServer

# Longer steps are gaps: frames that were left out or lost, or the camera was away.
_USUAL_STEPS = 1.6
_SETTLE_S = 4.0


@dataclass(frozen=True, slots=True)
class Outages:
    """Says what happens during a run."""

    seconds: float
    restarts: int
    away_s: float = 3.0
    """How long a server is away each time"""
    rate: int = 15
    """Frames a second of each camera"""


@dataclass(slots=True)
class CameraAccount:
    """Says what became of one camera's frames."""

    transport: str
    frames: int
    reconnects: int
    counts: dict[str, int]
    outages: int
    """Gaps while its server was away"""
    gap_frames: int
    """Frames that are not there in gaps while its server ran, by the times of those around"""
    gaps: list[str]
    """Where the first of these gaps are: number of the frame, seconds"""
    in_order: bool
    presentation_error_s: float
    """The largest difference between presentation time and the time since the first frame"""
    latest_s: float
    """The largest difference between a frame's capture time and when it was received"""
    clocks: list[str]


@dataclass(slots=True)
class OutageAccount:
    """Is the result of a run."""

    cameras: list[CameraAccount]
    memory_mb: list[float] = field(default_factory=list)
    """Of the pulling process, over the time"""

    @property
    def growth_mb(self) -> float:
        """How much more memory the last third needed than the second third; both without the start."""
        third = max(1, len(self.memory_mb) // 3)
        before, after = self.memory_mb[third : 2 * third], self.memory_mb[2 * third :]
        return round(max(after, default=0.0) - max(before, default=0.0), 1)

    def problems(self, restarts: int) -> list[str]:
        """Return what is not as promised."""
        found = []
        for each in self.cameras:
            said = sum(each.counts[name] for name in ("missing", "damaged", "overflowed", "broken_packets", "refused"))
            if each.reconnects < restarts or each.outages < restarts:
                found.append(f"{each.transport}: {each.reconnects} reconnects, {each.outages} outages")
            if each.counts["away_s"] < restarts:
                found.append(f"{each.transport}: {each.counts['away_s']} seconds without the camera")
            if not each.in_order or each.presentation_error_s > 0.01 or each.latest_s > 10:
                found.append(f"{each.transport}: order or times are wrong")
            if each.gap_frames > said:
                found.append(f"{each.transport}: {each.gap_frames} frames are not there, {said} were counted")
        if self.growth_mb > 15:
            found.append(f"memory grew by {self.growth_mb} MB")
        return found


async def pull_through_outages(folder: Path, dsn: str, outages: Outages, **settings: str) -> OutageAccount:
    """Pull one camera by TCP and one by UDP from a real RTSP server each, in one process."""
    launch = CAMERA.replace("height=240", "height=256").replace("25/1", f"{outages.rate}/1")
    servers = {transport: RtspServer(launch) for transport in ("tcp", "udp")}
    away: list[tuple[datetime, datetime]] = []
    try:
        async with source_site(folder, dsn, **settings) as site:
            for transport, server in servers.items():
                await site.add(transport, server.url, transport=transport)
            process = site.start()
            await site.wait_for(lambda rows: all(each.state == "pulling" for each in rows))
            samples: list[float] = []
            memory = asyncio.create_task(_watch_memory(process, samples, max(0.2, outages.seconds / 120)))
            for _ in range(outages.restarts):
                await asyncio.sleep(outages.seconds / (outages.restarts + 1) - outages.away_s)
                away.append(await _restart(list(servers.values()), outages.away_s))
            await asyncio.sleep(outages.seconds / (outages.restarts + 1))
            memory.cancel()
            rows = {each.name: each for each in await site.table.list()}
            frames = await site.frames()
            cameras = [_account(name, frames[f"cam-{name}"], rows[name].counts, away, outages.rate) for name in servers]
            return OutageAccount(cameras, samples)
    finally:
        for server in servers.values():
            server.kill()


async def _restart(servers: Sequence[RtspServer], away_s: float) -> tuple[datetime, datetime]:
    began = datetime.now(UTC)
    for server in servers:
        server.kill()
    await asyncio.sleep(away_s)
    for server in servers:
        server.start()
    return began, datetime.now(UTC)


async def _watch_memory(process: SourceProcess, samples: list[float], every_s: float) -> None:
    while True:
        samples.append(round(process.memory_bytes() / 1e6, 1))
        await asyncio.sleep(every_s)


def _account(
    transport: str,
    frames: Sequence[FrameCaptured],
    counts: dict[str, int],
    away: Sequence[tuple[datetime, datetime]],
    rate: int,
) -> CameraAccount:
    outages = gap_frames = 0
    gaps: list[str] = []
    error_s = 0.0
    settle = timedelta(seconds=_SETTLE_S)
    for number, (before, after) in enumerate(pairwise(frames)):
        step_s = (after.captured_at - before.captured_at).total_seconds()
        if step_s * rate < _USUAL_STEPS:
            continue
        if any(before.captured_at < end + settle and after.captured_at > begin for begin, end in away):
            outages += step_s > 1.0
        else:
            gap_frames += round(step_s * rate) - 1
            gaps.append(f"{number}: {step_s:.3f}")
    for each in frames:
        assert each.video is not None
        since_s = (each.captured_at - frames[0].captured_at).total_seconds()
        error_s = max(error_s, abs(each.video.presentation_time_s - since_s))
    return CameraAccount(
        transport=transport,
        frames=len(frames),
        reconnects=counts["reconnects"],
        counts=counts,
        outages=outages,
        gap_frames=gap_frames,
        gaps=gaps[:10],
        in_order=all(before.captured_at < after.captured_at for before, after in pairwise(frames)),
        presentation_error_s=round(error_s, 6),
        latest_s=round(max((abs((f.received_at - f.captured_at).total_seconds()) for f in frames), default=0.0), 3),
        clocks=sorted({each.video.clock for each in frames if each.video is not None}),
    )
