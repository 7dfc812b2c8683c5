"""Ends the client when everything was sent, and closes the flight (``edge.until``)."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Coroutine, Sequence

from infra.process.stopping import stop_signals
from ingest.edge.port import FrameSource
from ingest.edge.sending.flight import close_flight
from ingest.edge.sending.gateway import GatewayConnection
from ingest.edge.settings import EdgeSettings
from ingest.edge.spool.spool import Spool

logger = logging.getLogger(__name__)


async def stop_when_sent(
    bringing: Sequence[Coroutine[None, None, None]], spool: Spool, stop: asyncio.Event, all_sent: asyncio.Event
) -> None:
    """Let all sources come to their end, and set both events when their frames have left the spool."""
    await asyncio.gather(*bringing)
    while not stop.is_set():
        if not spool.frames:
            all_sent.set()
            stop.set()
            return
        await spool.wait_for_space()


def report_left(sources: Sequence[FrameSource]) -> bool:
    """Log what the sources have not brought; return whether that is nothing."""
    problems = [each.problem for each in sources if each.problem is not None]
    for problem in problems:
        logger.error("not everything was sent: %s", problem)
    return not problems


async def close_flight_of(
    settings: EdgeSettings, spool: Spool, connection: GatewayConnection, hurry: asyncio.Event, *, may_close: bool
) -> bool:
    """Close the flight of the settings with the number of its frames; return whether it is closed."""
    assert settings.flight is not None
    count = await asyncio.to_thread(spool.history.frames_of, settings.flight)
    if not may_close or not count:
        why = "something is left, as said above" if not may_close else "no frame was taken for it"
        logger.error("the flight %s is not closed: %s (edge.until)", settings.flight, why)
        return False
    stop = asyncio.Event()
    with stop_signals(stop, hurry):
        return await close_flight(connection, settings, settings.flight, count, stop)
