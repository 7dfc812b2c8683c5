"""Checks work in daemon threads: its result or error, and a loop that is closed before the work ends."""

from __future__ import annotations

import asyncio
import threading

import pytest

from detectors.worker.pipeline.threads import start_in_daemon


async def test_start_in_daemon_gives_result_or_error() -> None:
    future, thread = start_in_daemon(lambda: 7, "seven")
    assert await future == 7
    assert thread.daemon
    assert thread.name == "seven"
    failing, _ = start_in_daemon(lambda: 1 // 0, "fails")
    with pytest.raises(ZeroDivisionError):
        await failing


def test_start_in_daemon_keeps_no_loop_from_ending(recwarn: pytest.WarningsRecorder) -> None:
    go_on = threading.Event()

    async def begin() -> threading.Thread:
        return start_in_daemon(go_on.wait, "late")[1]

    thread = asyncio.run(begin())
    assert thread.is_alive()
    go_on.set()
    thread.join(10)
    assert not thread.is_alive()
    assert list(recwarn) == []
