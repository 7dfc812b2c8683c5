"""Sends pictures through the edge client while gateway and device fail, and accounts for every frame."""

from __future__ import annotations

import asyncio
import random
import time
from collections import Counter
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

from ingest.edge.port import NewFrame
from ingest.edge.spool.frame_file import encode, file_name, frame_key, header_of, number_and_key
from ingest.edge.spool.spool import WAITING_FOLDER
from ingest.edge.status import EdgeStatus
from ingest.files.capture import time_of_writing
from tests.harnesses.edge_process import EdgeProcess, captured_at
from tests.harnesses.fault_proxy import FaultProxy, fault_proxy
from tests.servers.gateway_process import GatewayProcess, first_occurrences, repetitions

STALL_S = 1.0


@dataclass(frozen=True)
class Outages:
    """Says how many pictures are sent, and how often each part fails meanwhile."""

    frames: int
    power_cuts: int
    kills: int = 2
    """Of the gateway."""
    freezes: int = 1
    refusals: int = 2
    """Times in which the gateway's port refuses connections."""
    fails: float = 0.5
    """The share of uploads that fail with 500, a lost response, or a cut connection."""
    seed: int = 1
    release: str = "delete"
    timeout_s: float = 120.0


@dataclass
class Account:
    """Says what arrived."""

    frames: int
    missing: int
    repeated: int
    """Events of frames.live beyond one per frame: uploads whose response was lost; consumers recognise their ids."""
    in_order: bool
    refused: int
    damaged: int
    left: int
    """Files in the folder, or frames in the spool, at the end."""
    faults: Counter[str] = field(default_factory=Counter)
    responses: Counter[str] = field(default_factory=Counter)
    seconds: float = 0.0


async def send_through_outages(folder: Path, outages: Outages) -> Account:
    """Run everything in ``folder`` to the end of the queue, and return what arrived at the gateway."""
    began = time.monotonic()
    gateway = GatewayProcess(folder / "gateway")
    gateway.start()
    try:
        async with fault_proxy(gateway.url, fails=outages.fails, seed=outages.seed) as proxy:
            edge = _edge(folder, proxy, outages)
            try:
                faults = await _run(edge, gateway, proxy, outages)
                status = await edge.wait_until(
                    lambda found: len(proxy.accepted) >= outages.frames and found.frames == 0, outages.timeout_s
                )
                assert edge.stop() == 0, edge.logged()
            finally:
                edge.kill()
        arrived = await gateway.frames()
    finally:
        gateway.kill()
    once = first_occurrences(arrived)
    wanted = [captured_at(number) for number in range(outages.frames)]
    return Account(
        frames=len(once),
        missing=len(set(wanted) - {frame.captured_at for frame in once}),
        repeated=repetitions(arrived),
        in_order=[frame.captured_at for frame in once] == wanted,
        refused=status.refused,
        damaged=status.damaged,
        left=status.frames + _left_in_folder(edge, outages),
        faults=faults,
        responses=proxy.counts,
        seconds=time.monotonic() - began,
    )


def _edge(folder: Path, proxy: FaultProxy, outages: Outages) -> EdgeProcess:
    settings = {
        "STANDGALE_EDGE__RELEASE": outages.release,
        "STANDGALE_EDGE__STALL_TIMEOUT_S": str(STALL_S),
        "STANDGALE_EDGE__LIVE_S": "0",
        "STANDGALE_EDGE__FIRST_DELAY_S": "0.005",
        "STANDGALE_EDGE__MAX_DELAY_S": "0.1",
    }
    return EdgeProcess(folder / "camera", folder / "spool", proxy.url, environment=settings)


def _left_in_folder(edge: EdgeProcess, outages: Outages) -> int:
    """Return how many pictures were not released; with ``keep`` all stay."""
    return sum(1 for _ in edge.folder.glob("*.jpg")) if outages.release == "delete" else 0


async def _run(edge: EdgeProcess, gateway: GatewayProcess, proxy: FaultProxy, outages: Outages) -> Counter[str]:
    """Write the pictures while the faults happen, one after the other in random order."""
    rng = random.Random(outages.seed)
    faults: dict[str, Callable[[], Awaitable[None]]] = {
        "power cut": lambda: _cut_power(edge, rng),
        "gateway killed": lambda: _kill_gateway(gateway, rng),
        "gateway frozen": lambda: _freeze_gateway(gateway),
        "port closed": lambda: _close_port(proxy, rng),
    }
    planned = ["power cut"] * outages.power_cuts + ["gateway killed"] * outages.kills
    planned += ["gateway frozen"] * outages.freezes + ["port closed"] * outages.refusals
    rng.shuffle(planned)
    edge.start()
    done: Counter[str] = Counter()
    written = 0
    for number, name in enumerate([*planned, None], start=1):
        until = outages.frames * number // (len(planned) + 1)
        for each in range(written, until):
            await asyncio.to_thread(edge.write, each)
        written = until
        await asyncio.sleep(rng.uniform(0.0, 0.2))
        if name is not None:
            await faults[name]()
            done[name] += 1
        # The faults are spread over the whole run, and not over its beginning.
        behind = max(written - outages.frames // (len(planned) + 1), 0)
        await edge.wait_until(partial(_has_accepted, proxy, behind), outages.timeout_s)
    return done


async def _cut_power(edge: EdgeProcess, rng: random.Random) -> None:
    """Kill the client, leave a torn file in its spool as an honest disk never does, and start it again."""
    edge.kill()
    torn = await asyncio.to_thread(tear_last_file, edge, rng)
    edge.start()
    if torn is not None:
        await asyncio.sleep(rng.uniform(0.0, 0.3))


async def _kill_gateway(gateway: GatewayProcess, rng: random.Random) -> None:
    gateway.kill()
    await asyncio.sleep(rng.uniform(0.0, 0.5))
    await asyncio.to_thread(gateway.start)


async def _freeze_gateway(gateway: GatewayProcess) -> None:
    gateway.freeze()
    await asyncio.sleep(2 * STALL_S)
    gateway.thaw()


async def _close_port(proxy: FaultProxy, rng: random.Random) -> None:
    await proxy.close()
    await asyncio.sleep(rng.uniform(0.1, 0.5))
    await proxy.open()


def _has_accepted(proxy: FaultProxy, least: int, _status: EdgeStatus) -> bool:
    return len(proxy.accepted) >= least


def tear_last_file(edge: EdgeProcess, rng: random.Random) -> Path | None:
    """Write the beginning of the next frame's file to the spool under its final name; its source is not released.

    Also leave the beginning of a file that had no name yet. Return the torn file, or None without a picture to take.
    """
    waiting = edge.spool / WAITING_FOLDER
    waiting.mkdir(parents=True, exist_ok=True)
    entries = {parts[1]: parts[0] for path in waiting.iterdir() if (parts := number_and_key(path.name)) is not None}
    next_number = max(entries.values(), default=0) + 1
    for path in sorted(edge.folder.glob("*.jpg")):
        with suppress(FileNotFoundError):
            image = path.read_bytes()
            header = header_of(NewFrame(image, time_of_writing(path.stat().st_mtime_ns), path.name))
            if frame_key(header) not in entries:
                whole = encode(header) + image
                torn = waiting / file_name(next_number, frame_key(header))
                torn.write_bytes(whole[: rng.randrange(1, len(whole))])
                (waiting / f"{file_name(next_number + 1, 'x')}.unfinished").write_bytes(whole[:100])
                return torn
    return None
