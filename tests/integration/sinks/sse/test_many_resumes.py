"""A client that loses its connection a hundred times, and comes back late or to another server, has each event once."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from tests.harnesses.sse_server import Page, serving, started
from tests.servers.stream import numbered

pytestmark = pytest.mark.integration

DROPS = 100


async def test_a_hundred_drops_between_two_servers_miss_and_repeat_nothing(tmp_path: Path) -> None:
    page, number = Page(), 0
    # One ring holds what a short absence misses, the other one less than any: that is read from the topic.
    async with serving(tmp_path, replay_events=1_000) as long, serving(tmp_path, replay_events=4) as short:
        await started(long.hub)
        await started(short.hub)
        first = asyncio.create_task(page.listen(long.http, long.url, enough=1))
        await asyncio.wait_for(page.live.wait(), 10)
        for drop in range(DROPS):
            # As after a day: many events have come since.
            count = 60 if drop % 25 == 24 else 3
            await long.publish(*(numbered(number + each, ["car"]) for each in range(count)))
            number += count
            server = (long, short)[drop % 2]
            # Cut off somewhere in what it has missed, and once everything is there.
            for enough in (number - count + 1 + drop % count, number):
                if len(page.events) < enough:
                    await asyncio.wait_for(page.listen(server.http, server.url, enough=enough), 20)
        await asyncio.wait_for(first, 5)
    assert sorted(page.numbers) == list(range(number))
    for device in range(5):
        own = [each for each in page.numbers if each % 5 == device]
        assert own == sorted(own)
    assert page.others == []
