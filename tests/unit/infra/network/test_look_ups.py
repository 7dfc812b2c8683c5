"""Look-ups run in a limited number of threads, and those that were cancelled before are not made."""

from __future__ import annotations

import asyncio
import threading

import pytest

from infra.network.look_ups import LookUpThreads


async def test_look_up_returns_what_the_call_returns_and_raises_its_error() -> None:
    threads = LookUpThreads(2)
    assert await threads.run(lambda host, port: [f"{host}:{port}"], "camera.test", 80) == ["camera.test:80"]
    with pytest.raises(OSError, match="not found"):
        await threads.run(_fail)


async def test_calls_beyond_the_threads_wait_and_a_cancelled_one_is_not_made() -> None:
    threads, go_on, made = LookUpThreads(2), threading.Event(), list[str]()
    began = threading.Semaphore(0)

    def look_up(host: str) -> str:
        made.append(host)
        began.release()
        assert go_on.wait(10)
        return host

    asked = [asyncio.create_task(threads.run(look_up, host)) for host in ("a", "b", "c", "d")]
    for _ in range(2):
        assert await asyncio.to_thread(began.acquire, timeout=10)
    asked[2].cancel()
    await asyncio.sleep(0.02)
    go_on.set()
    found = await asyncio.gather(*asked, return_exceptions=True)
    assert (found[0], found[1], found[3]) == ("a", "b", "d")
    assert sorted(made) == ["a", "b", "d"]


async def test_one_thread_serves_look_ups_one_after_the_other() -> None:
    threads, names = LookUpThreads(32), set[str]()
    for _ in range(20):
        names.add(await threads.run(lambda: threading.current_thread().name))
        # The thread takes a moment to wait again.
        await asyncio.sleep(0.002)
    assert len(names) <= 2


def _fail() -> None:
    raise OSError("not found")
