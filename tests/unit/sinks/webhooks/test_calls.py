"""A call has its limits also where a name server does not answer; what a receiver asks for may be anything."""

from __future__ import annotations

import asyncio
import socket
import threading
from collections.abc import Iterator
from datetime import timedelta
from typing import Any

import pytest

from infra.network.responses import retry_after_s
from sinks.webhooks.calls import Caller
from sinks.webhooks.schedule import delay_after
from sinks.webhooks.settings import WebhookSettings


@pytest.fixture
def silent(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Lets no look-up of slow.test end before the test does."""
    ended, look_up = threading.Event(), socket.getaddrinfo

    def answer(host: Any, *args: Any, **kwargs: Any) -> Any:
        if host == "slow.test":
            ended.wait(30)
            raise socket.gaierror("no answer")
        return look_up(host, *args, **kwargs)

    monkeypatch.setattr(socket, "getaddrinfo", answer)
    yield
    ended.set()


@pytest.mark.usefixtures("silent")
@pytest.mark.parametrize("scheme", ["http", "https"])
async def test_look_ups_that_hang_end_in_time_and_leave_other_threads_free(scheme: str) -> None:
    caller = Caller(WebhookSettings(timeout_s=0.3, concurrency=40))
    calls = [asyncio.create_task(caller.post(f"{scheme}://slow.test/", b"{}", {})) for _ in range(40)]
    await asyncio.sleep(0.05)
    async with asyncio.timeout(5):
        assert await asyncio.to_thread(int) == 0
        outcomes = await asyncio.gather(*calls)
    assert {each.error for each in outcomes} == {"no response within 0.3 s (webhooks.timeout_s)"}
    await caller.close()


@pytest.mark.parametrize("text", ["99999", "99999999", "9" * 5_000, "Mon, 01 Jan 2096 00:00:00 GMT"])
def test_retry_after_of_years_is_granted_for_an_hour(text: str) -> None:
    assert delay_after(1, retry_after_s(text)) == timedelta(hours=1)
