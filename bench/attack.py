"""Measures how much attackers with a valid token slow down the uploads of another device."""

from __future__ import annotations

import asyncio
import sys
import time
from contextlib import AsyncExitStack
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from statistics import median

import orjson
import psutil

from bench import pictures
from bench.attack_kinds import Attack, attacks
from bench.measure import percentile
from bench.processes import BenchError, Server, home, measured
from bench.result import RATIO, Figure, Goal, Result
from bench.uploads import Uploads

GOAL = 1.5
_RATE = 100.0
_FRAME_BYTES = 200_000
_FRAMES_PER_S = 20.0
_TIMEOUT_S = 10.0
_ATTACKER_PICTURE_BYTES = 120_000
_NOTE = (
    f"The gateway is the real process. One device sends {_FRAMES_PER_S:g} frames/s of {_FRAME_BYTES // 1000} KB over "
    f"one connection; an attacker with a token of its own sends {_RATE:g} requests/s of one kind, each over a new "
    "connection, from a separate process on the same machine and address. Per kind: the median over the rounds of the "
    "p95, from the first byte of an upload to its 202 during the attack, over the p95 of the seconds just before it. "
    "The attacker's own processor time counts, too: on 2 cores, 10 MB sent 100 times a second take one of them. So the "
    "table has a second ratio, over the p95 while the same attack goes to another gateway process of the machine, and "
    "the gateway's processor time per request of the attack, without that of the uploads."
)


@dataclass(frozen=True, slots=True)
class _Window:
    """Holds the times of the uploads in some seconds."""

    latencies_ms: list[float]
    failed: int

    @property
    def sent(self) -> int:
        """Return how many uploads were sent."""
        return len(self.latencies_ms) + self.failed

    @property
    def p95_ms(self) -> float:
        """Return the 95th percentile."""
        return percentile(self.latencies_ms, 95)


@dataclass(frozen=True, slots=True)
class _Outcome:
    """Holds what one kind of attack did."""

    rounds: list[tuple[_Window, _Window, _Window]]
    """Before; during the same attack on another gateway; during the attack"""
    cost_ms: float
    """The processor time that the gateway took for one request of the attack"""
    statuses: str

    @property
    def ratio(self) -> float:
        """Return the median of the ratios of the p95."""
        return median(during.p95_ms / before.p95_ms for before, _, during in self.rounds)

    @property
    def ratio_to_elsewhere(self) -> float:
        """Return the median of the ratios of the p95 to the same attack on another gateway of the machine."""
        return median(during.p95_ms / elsewhere.p95_ms for _, elsewhere, during in self.rounds)

    def figures(self, name: str) -> list[Figure]:
        """Return the figures of the table."""
        failed = sum(during.failed for _, _, during in self.rounds)
        return [
            Figure(f"{name}: p95 before", median(before.p95_ms for before, _, _ in self.rounds), "ms"),
            Figure(f"{name}: p95 over before", self.ratio, RATIO, Goal(GOAL, "below")),
            Figure(f"{name}: p95 over attack elsewhere", self.ratio_to_elsewhere, RATIO),
            Figure(f"{name}: processor time per request", self.cost_ms, "ms"),
            *([Figure(f"{name}: failed uploads", failed, "frames", Goal(1, "below"))] if failed else []),
        ]


def run(quick: bool) -> Result:
    """Measure every kind, then all together."""
    return measured(lambda folder: _run(folder, quick))


async def _run(folder: Path, quick: bool) -> Result:
    seconds, rounds = (2.0, 1) if quick else (4.0, 2)
    frame = pictures.of_size(_FRAME_BYTES).data
    async with AsyncExitStack() as stack:
        place = await stack.enter_async_context(home(folder))
        victim, attacker = [await place.token(name) for name in ("victim", "attacker")]
        gateway = await stack.enter_async_context(place.standgale("gateway", port_setting="STANDGALE_GATEWAY__PORT"))
        other = await stack.enter_async_context(place.standgale("gateway", port_setting="STANDGALE_GATEWAY__PORT"))
        uploads = Uploads(gateway.port, "/api/v1/frames", victim, frame, count(1))
        await _window(uploads, 2.0)
        kinds = _write(folder, attacks(attacker, pictures.of_size(_ATTACKER_PICTURE_BYTES).data))
        kinds["all kinds in turn"] = [file for files in kinds.values() for file in files]
        outcomes = {
            name: await _measure(uploads, (gateway, other), files, seconds, rounds) for name, files in kinds.items()
        }
        memory_mb = gateway.peak_memory_mb()
    figures = [figure for name, outcome in outcomes.items() for figure in outcome.figures(name)]
    worst = max(outcome.ratio for outcome in outcomes.values())
    figures += [
        Figure("worst of all: p95 over before", worst, RATIO, Goal(GOAL, "below")),
        Figure("peak memory of the gateway", memory_mb, "MB"),
    ]
    notes = [f"{name}: {outcome.statuses}." for name, outcome in outcomes.items()]
    return Result("attack", "Attackers against another device's uploads", tuple(figures), (_NOTE, " ".join(notes)))


def _write(folder: Path, kinds: list[Attack]) -> dict[str, list[Path]]:
    """Write each request to a file, by the name of its kind."""
    files: dict[str, list[Path]] = {}
    for number, attack in enumerate(kinds):
        path = folder / f"attack-{number}{'.hold' if attack.hold else '.request'}"
        path.write_bytes(attack.request)
        files[attack.name] = [path]
    return files


async def _measure(
    uploads: Uploads, servers: tuple[Server, Server], files: list[Path], seconds: float, rounds: int
) -> _Outcome:
    """Measure uploads before and during an attack on the other gateway, then on the one that takes them."""
    gateway, other = servers
    process = psutil.Process(gateway.pid)
    found: list[tuple[_Window, _Window, _Window]] = []
    costs_ms: list[float] = []
    statuses = ""
    for _ in range(rounds):
        idle = _processor_s(process)
        before = await _window(uploads, seconds)
        per_upload_s = (_processor_s(process) - idle) / before.sent
        elsewhere, _, _ = await _under_attack(uploads, other.port, files, seconds)
        await asyncio.sleep(1.0)
        idle = _processor_s(process)
        during, requests, statuses = await _under_attack(uploads, gateway.port, files, seconds)
        costs_ms.append((_processor_s(process) - idle - per_upload_s * during.sent) * 1_000 / requests)
        found.append((before, elsewhere, during))
    return _Outcome(found, median(costs_ms), statuses)


def _processor_s(process: psutil.Process) -> float:
    """Return the processor time that the process has used so far."""
    used = process.cpu_times()
    return float(used.user + used.system)


async def _under_attack(uploads: Uploads, port: int, files: list[Path], seconds: float) -> tuple[_Window, int, str]:
    """Measure uploads while attackers send; the first second does not count."""
    sending = [str(port), str(_RATE), str(seconds + 2.0), *map(str, files)]
    command = [sys.executable, "-m", "bench.attackers", *sending]
    attackers = await asyncio.create_subprocess_exec(*command, stdout=asyncio.subprocess.PIPE)
    assert attackers.stdout is not None
    try:
        if await attackers.stdout.readline() != b"ready\n":
            raise BenchError("the attackers did not start")
        await asyncio.sleep(1.0)
        window = await _window(uploads, seconds)
        found = orjson.loads(await asyncio.wait_for(attackers.stdout.readline(), 60))
    finally:
        if attackers.returncode is None:
            attackers.terminate()
        await attackers.wait()
    statuses = ", ".join(f"{count}× {_meaning(status)}" for status, count in sorted(found["statuses"].items()))
    return window, sum(found["statuses"].values()), f"{statuses}; {found['late_s']:.1f} s late"


def _meaning(status: str) -> str:
    return {"0": "closed or held", "-1": "not connected"}.get(status, status)


async def _window(uploads: Uploads, seconds: float) -> _Window:
    """Send frames at a steady rate for ``seconds``."""
    latencies: list[float] = []
    failed = 0
    connection: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None = None
    begin = time.perf_counter()
    for number in range(int(seconds * _FRAMES_PER_S)):
        due = begin + number / _FRAMES_PER_S
        await asyncio.sleep(max(0.0, due - time.perf_counter()))
        start = time.perf_counter()
        try:
            async with asyncio.timeout(_TIMEOUT_S):
                if connection is None:
                    connection = await asyncio.open_connection("127.0.0.1", uploads.port)
                status = await _upload(uploads, *connection)
        except (OSError, TimeoutError, asyncio.IncompleteReadError):
            status = 0
        if status == 202:
            latencies.append((time.perf_counter() - start) * 1_000)
        else:
            failed += 1
            if connection is not None:
                connection[1].transport.abort()
            connection = None
    if connection is not None:
        connection[1].close()
    if not latencies:
        raise BenchError(f"none of {failed} uploads was accepted")
    return _Window(latencies, failed)


async def _upload(uploads: Uploads, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> int:
    writer.writelines(uploads.request())
    head = await reader.readuntil(b"\r\n\r\n")
    length = int(head.lower().partition(b"content-length: ")[2].partition(b"\r\n")[0])
    await reader.readexactly(length)
    return int(head.split()[1])
