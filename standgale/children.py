"""Standgale processes started by another one (the demonstration, the benchmarks): ready before use, ended after it."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

import aiohttp

from schemas.errors import StandgaleError

_START_TIMEOUT_S = 90.0
_STOP_TIMEOUT_S = 30.0
_LOOK_AGAIN_S = 0.1
_LOG_TAIL = 2_000


class ChildError(StandgaleError):
    """A process did not get ready; the text says what it said last."""

    code = "PROCESS_NOT_READY"


@asynccontextmanager
async def running(
    command: Sequence[str], environment: Mapping[str, str], log: Path, ready_url: str
) -> AsyncIterator[asyncio.subprocess.Process]:
    """The process of ``command`` once ``ready_url`` answers 200; ended at the end, with force if need be.

    What it prints is appended to ``log``. Raises ChildError when it ends, or is not ready in time.
    """
    with log.open("ab") as output:
        process = await asyncio.create_subprocess_exec(*command, env=environment, stdout=output, stderr=output)
    try:
        await _until_ready(ready_url, process, log)
        yield process
    finally:
        if process.returncode is None:
            process.terminate()
            try:
                await asyncio.wait_for(process.wait(), _STOP_TIMEOUT_S)
            except TimeoutError:
                process.kill()
                await process.wait()


async def _until_ready(url: str, process: asyncio.subprocess.Process, log: Path) -> None:
    deadline = time.monotonic() + _START_TIMEOUT_S
    async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=5)) as session:
        answer = "no answer"
        while time.monotonic() < deadline and process.returncode is None:
            try:
                async with session.get(url) as response:
                    if response.status == 200:
                        return
                    answer = await response.text()
            except (aiohttp.ClientError, TimeoutError) as error:
                answer = str(error)
            await asyncio.sleep(_LOOK_AGAIN_S)
    tail = log.read_text(encoding="utf-8", errors="replace")[-_LOG_TAIL:]
    raise ChildError(f"a process did not get ready ({answer}); its log {log} ends: {tail}")
