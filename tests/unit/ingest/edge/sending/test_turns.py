"""The choice between live frames and the backlog."""

from __future__ import annotations

import asyncio

import pytest

from ingest.edge.sending.turns import Turns


async def may_send(turns: Turns, size_bytes: int) -> bool:
    """Return whether the backlog may send at once; if so, it has done it."""
    try:
        await asyncio.wait_for(turns.wait_for_backlog(size_bytes), 0.001)
    except TimeoutError:
        return False
    return True


async def test_backlog_is_not_held_back_while_no_live_frame_is_being_sent() -> None:
    turns = Turns(0.0)
    assert await may_send(turns, 1_000_000)
    with turns.live():
        assert not await may_send(turns, 1)
    assert await may_send(turns, 1_000_000)


@pytest.mark.parametrize("share", [0.0, 0.2, 0.5, 0.9])
@pytest.mark.parametrize("piece_bytes", [100, 1_000, 3_000])
async def test_backlog_gets_its_share_of_the_bytes(share: float, piece_bytes: int) -> None:
    turns, live, backlog = Turns(share), 0, 0
    with turns.live():
        for _ in range(300):
            turns.sent_live(1_000)
            live += 1_000
            # What it need not wait for, a loop finds faster than tasks do.
            while turns._credit >= piece_bytes:
                await turns.wait_for_backlog(piece_bytes)
                backlog += piece_bytes
    assert backlog / (live + backlog) == pytest.approx(share, abs=0.02)


async def test_backlog_goes_on_when_the_live_frame_is_sent() -> None:
    turns = Turns(0.2)
    with turns.live():
        waiting = asyncio.create_task(turns.wait_for_backlog(1_000))
        await asyncio.sleep(0.001)
        assert not waiting.done()
    await asyncio.wait_for(waiting, 1)


async def test_share_of_one_live_frame_is_not_saved_up_for_the_next() -> None:
    turns = Turns(0.5)
    with turns.live():
        turns.sent_live(1_000_000)
    with turns.live():
        assert not await may_send(turns, 1)
