"""Checks that a process ends although some of its threads hang."""

from __future__ import annotations

import subprocess
import sys
import textwrap
import threading

import pytest

from infra.process.forced_exit import ForcedExit

_PROCESS = """
import asyncio, sys, threading
from infra.process import components
from infra.process.service import run_service
from infra.process.health import Health

components._CANCEL_TIMEOUT_S = components._END_TIMEOUT_S = 0.3
never = threading.Event()

class Stuck:
    name = "stuck"

    async def run(self, stop, health):
        {stuck}

async def main():
    stop = asyncio.Event()
    asyncio.get_running_loop().call_later(0.2, stop.set)
    return await components.run_components([Stuck()], health=Health(), drain_timeout_s=0.2, stop=stop)

sys.exit(run_service(main))
"""
_WAYS = {
    "in a thread of the event loop's pool": "await asyncio.to_thread(never.wait)",
    "in a thread of its own": "threading.Thread(target=never.wait).start(); await stop.wait()",
    "in a task that can't be cancelled": (
        "\n        while True:\n            try:\n                await asyncio.sleep(60)\n"
        "            except asyncio.CancelledError:\n                continue"
    ),
}


@pytest.mark.parametrize("way", _WAYS)
def test_process_with_hanging_threads_ends_in_bounded_time(way: str) -> None:
    code = textwrap.dedent(_PROCESS).replace("{stuck}", _WAYS[way])
    done = subprocess.run([sys.executable, "-c", code], timeout=30, check=False)
    assert done.returncode == 1


def test_idle_threads_of_a_pool_change_no_exit_status() -> None:
    stuck = (
        "from concurrent.futures import ThreadPoolExecutor; self.pool = ThreadPoolExecutor(1); self.pool.submit(int)"
    )
    code = textwrap.dedent(_PROCESS).replace("{stuck}", f"{stuck}; await stop.wait()")
    done = subprocess.run([sys.executable, "-c", code], timeout=30, check=False, capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")


def test_threads_that_end_or_were_there_before_are_no_reason() -> None:
    never, soon = threading.Event(), threading.Event()
    before = threading.Thread(target=never.wait)
    before.start()
    left: list[int] = []
    ending = ForcedExit(left.append)
    threading.Thread(target=never.wait, daemon=True).start()
    after = threading.Thread(target=soon.wait, args=(0.1,))
    after.start()
    ending.finish(0)
    assert left == []
    never.set()
    before.join()


def test_a_thread_that_was_given_up_ends_the_process_at_once_with_its_own_status() -> None:
    never = threading.Event()
    left: list[int] = []
    ending = ForcedExit(left.append)
    thread = threading.Thread(target=never.wait, daemon=True)
    thread.start()
    ending.give_up(thread)
    ending.finish(0)
    assert left == [0]
    never.set()
    thread.join()
    ending.finish(0)
    assert left == [0]
