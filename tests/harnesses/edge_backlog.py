"""Measures how long live frames take while the edge client sends a backlog."""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass
from pathlib import Path

from ingest.edge.port import NewFrame
from ingest.edge.spool.frame_file import encode, file_name, frame_key, header_of
from ingest.edge.spool.spool import WAITING_FOLDER
from schemas.timestamps import format_utc
from schemas.topics import FRAMES_BACKFILL, FRAMES_LIVE
from tests.harnesses.edge_process import EdgeProcess, captured_at, small_jpeg
from tests.harnesses.fault_proxy import fault_proxy
from tests.servers.gateway_process import GatewayProcess

_TOPICS = (FRAMES_LIVE, FRAMES_BACKFILL)


@dataclass
class Waits:
    """Holds how long live frames took from the folder to the gateway, and whether the rest is right."""

    seconds: list[float]
    backlog_in_order: bool
    live_in_order: bool
    backlog_in_backfill: bool
    """Whether the backlog is in frames.backfill, in order and once, and the live frames in frames.live"""
    backlog_s: float
    """How long the backlog took"""
    sent_during: int
    """Frames of the backlog that were accepted before the last live frame."""

    def percentile(self, share: float) -> float:
        return sorted(self.seconds)[min(int(len(self.seconds) * share), len(self.seconds) - 1)]


async def send_live_frames_during_backlog(
    folder: Path, backlog: int, live: int, *, interval_s: float, **settings: str
) -> Waits:
    """Put ``backlog`` frames into the spool, as an outage leaves them, and then ``live`` pictures into the folder."""
    began = time.monotonic()
    with GatewayProcess(folder / "gateway") as gateway:
        async with fault_proxy(gateway.url) as proxy:
            edge = EdgeProcess(folder / "camera", folder / "spool", proxy.url)
            edge.environment = {f"STANDGALE_EDGE__{name.upper()}": text for name, text in settings.items()}
            await asyncio.to_thread(fill_spool, edge.spool / WAITING_FOLDER, backlog)
            edge.start("--delete")
            try:
                await edge.wait_until(lambda found: found.state.counts.sent > 0)
                written = {}
                for number in range(backlog, backlog + live):
                    written[format_utc(captured_at(number))] = time.monotonic()
                    await asyncio.to_thread(edge.write, number)
                    await asyncio.sleep(interval_s)
                await edge.wait_until(lambda found: len(proxy.accepted) == backlog + live, 3_600)
                assert edge.stop() == 0, edge.logged()
            finally:
                edge.kill()
        sent = {topic: [format_utc(frame.captured_at) for frame in await gateway.frames(topic)] for topic in _TOPICS}
    old = [moment for moment in proxy.accepted if moment not in written]
    new = [moment for moment in proxy.accepted if moment in written]
    last_live_s = max(proxy.accepted[moment] for moment in new)
    return Waits(
        [proxy.accepted[moment] - begun for moment, begun in written.items()],
        backlog_in_order=old == sorted(old),
        live_in_order=new == sorted(new),
        backlog_in_backfill=(sent[FRAMES_LIVE], sent[FRAMES_BACKFILL]) == (new, old),
        backlog_s=max(proxy.accepted[moment] for moment in old) - began,
        sent_during=sum(proxy.accepted[moment] < last_live_s for moment in old),
    )


def fill_spool(waiting: Path, backlog: int, padding: int = 0) -> None:
    """Write frames as a client leaves them that was ended; ``padding`` zeros follow the end of each JPEG."""
    waiting.mkdir(parents=True)
    for number in range(backlog):
        frame = NewFrame(small_jpeg(number) + bytes(padding), captured_at(number), f"{number}.jpg")
        header = header_of(frame)
        (waiting / file_name(number + 1, frame_key(header))).write_bytes(encode(header) + frame.image)
