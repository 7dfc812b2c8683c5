"""Waits in tests until a condition is true."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from inspect import isawaitable

TIMEOUT_S = 60.0
"""How long a test waits for what must happen; it takes far less where the machine is idle."""
_PAUSE_S = 0.02


async def until(
    true: Callable[[], object],
    why: str | Callable[[], object] = "it did not come true",
    timeout_s: float = TIMEOUT_S,
) -> None:
    """Wait until what ``true`` returns, or its awaited result, is true; fail with ``why`` when that takes too long."""
    deadline = time.monotonic() + timeout_s
    while not await _result(true()):
        assert time.monotonic() < deadline, f"{why() if callable(why) else why}, after {timeout_s:g} s"
        await asyncio.sleep(_PAUSE_S)


async def _result(found: object | Awaitable[object]) -> object:
    return await found if isawaitable(found) else found
