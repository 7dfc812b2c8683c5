"""Starts a child process, waits until it is ready, and ends it after use."""

from __future__ import annotations

import asyncio
import sys
import time
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

import aiohttp

from schemas.errors import StandgaleError

_START_TIMEOUT_S = 90.0
_STOP_TIMEOUT_S = 30.0
_PAUSE_S = 0.1
_LOG_TAIL = 2_000


class ChildError(StandgaleError):
    """Says that a child process did not get ready, and how its log ends."""

    code = "PROCESS_NOT_READY"


def standgale_command(*arguments: str) -> tuple[str, ...]:
    """Return the command line of `standgale` with ``arguments``, for a child process.

    ``-P`` keeps the current folder off the child's import path: a ``schemas.py`` there would hide our package.
    """
    return (sys.executable, "-P", "-m", "standgale", *arguments)


@asynccontextmanager
async def run_child(
    command: Sequence[str], environment: Mapping[str, str], log_path: Path, ready_url: str
) -> AsyncIterator[asyncio.subprocess.Process]:
    """Run ``command`` and yield its process once ``ready_url`` responds with 200; end it afterwards, forced if needed.

    Its output is appended to the file ``log_path``. Its input stays open as long as this process runs, also when this
    one is killed (:func:`infra.process.stopping.stop_at_end_of_input`). Raises ChildError when it ends, or is not ready
    in time.
    """
    with log_path.open("ab") as output:
        process = await asyncio.create_subprocess_exec(
            *command,
            env=environment,
            stdin=asyncio.subprocess.PIPE,
            stdout=output,
            stderr=output,
            # Ctrl-C in a terminal goes to the whole process group; this process ends the child when it is done with it.
            start_new_session=True,
        )
    try:
        await _wait_until_ready(ready_url, process, log_path)
        yield process
    finally:
        if process.returncode is None:
            process.terminate()
            try:
                async with asyncio.timeout(_STOP_TIMEOUT_S):
                    await process.wait()
            except TimeoutError:
                process.kill()
                await process.wait()


async def _wait_until_ready(url: str, process: asyncio.subprocess.Process, log_path: Path) -> None:
    deadline = time.monotonic() + _START_TIMEOUT_S
    async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=5)) as session:
        last = "no response"
        while time.monotonic() < deadline and process.returncode is None:
            try:
                async with session.get(url) as response:
                    if response.status == 200:
                        return
                    last = await response.text()
            except (aiohttp.ClientError, TimeoutError) as error:
                last = str(error)
            await asyncio.sleep(_PAUSE_S)
    tail = log_path.read_text(encoding="utf-8", errors="replace")[-_LOG_TAIL:]
    raise ChildError(f"a child process did not get ready ({last}); its log {log_path} ends: {tail}")
