"""Sends live frames, and prints how long each took; a process of its own, so that nothing else delays it."""

from __future__ import annotations

import asyncio
import sys
import time
from collections.abc import Callable
from datetime import timedelta

import aiohttp
import uvloop

from schemas.timestamps import format_utc
from tests.faults.fleet import START
from tests.harnesses.edge_process import small_jpeg

_INTERVAL_S = 0.25


async def _send(url: str, token: str) -> None:
    """Send frames until this process is ended; each has a line, "ok SECONDS" or "refused TEXT"."""
    headers, number = {"X-API-Token": token, "Content-Type": "image/jpeg"}, 0
    async with aiohttp.ClientSession() as session:
        while True:
            number += 1
            query = {"captured_at": format_utc(START + timedelta(seconds=number))}
            picture = small_jpeg(-number % (1 << 31))
            began = time.perf_counter()
            async with session.post(url, params=query, data=picture, headers=headers) as response:
                body = await response.read()
            seconds = time.perf_counter() - began
            print(f"ok {seconds:.6f}" if response.status == 200 else f"refused {response.status} {body[:80]!r}")
            sys.stdout.flush()
            await asyncio.sleep(max(0.0, _INTERVAL_S - seconds))


async def live_frames(gateway: str, token: str, took: Callable[[float], None], refused: Callable[[str], None]) -> None:
    """Run that process on the gateway at ``gateway`` until this is cancelled, and say what becomes of each frame.

    Raises RuntimeError when the process ends.
    """
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-P", "-m", "tests.campaign.jobs.live", f"{gateway}/api/v1/detect", token),
        stdout=asyncio.subprocess.PIPE,
    )
    assert process.stdout is not None
    try:
        async for line in process.stdout:
            word, _, text = line.decode().strip().partition(" ")
            if word == "ok":
                took(float(text))
            else:
                refused(text)
    finally:
        if process.returncode is None:
            process.kill()
        await process.wait()
    raise RuntimeError("the process that sends live frames has ended")


if __name__ == "__main__":
    uvloop.run(_send(*sys.argv[1:3]))
