"""The contract of sinks: inherit :class:`SinkContract` and give it a fixture ``harness``.

::

    class TestMySink(SinkContract):
        @pytest.fixture
        async def harness(self, tmp_path: Path) -> SinkHarness:
            return MySinkHarness(tmp_path)  # derives from SinkHarness

The tests call the sink by hand, and run it against an embedded broker with the loop of ``standgale sink``.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Collection, Sequence
from contextlib import suppress
from itertools import pairwise
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest

from infra.consuming.port import Sink
from infra.errors import TransientError
from schemas.event_base import Event
from schemas.events import DeadLetter, DetectionsMade, FrameCaptured
from standgale.testing.factories import detections_made, frame_captured
from standgale.testing.sink_site import SinkSite
from standgale.testing.waiting import until


class SinkHarness:
    """What the contract needs of a sink and of the place it writes to; an author derives from it."""

    def make_sink(self) -> Sink[Any]:
        """Make a sink on the test's place, not open yet; each call as another process would make it."""
        raise NotImplementedError

    async def stored(self) -> Collection[UUID]:
        """Return the ids of the events that the place holds, as often as it holds each: see :func:`event_id`."""
        raise NotImplementedError

    def event(self, number: int) -> Event:
        """Make event ``number``, one a second, of three devices in turn."""
        device = f"drone-{number % 3}"
        kind = self.make_sink().event
        if issubclass(kind, DetectionsMade):
            return detections_made(number, device=device)
        if issubclass(kind, FrameCaptured):
            return frame_captured(number, device=device)
        raise NotImplementedError(f"{type(self).__name__} must make the events of its sink by `event`")

    def poison(self, number: int) -> Event | None:
        """Make event ``number`` so that the place can never take it; None (the default): there is no such event."""
        del number
        return None

    async def take_away(self) -> None:
        """Make the place unavailable, as when its server stops. Without it the tests of outages are skipped."""
        pytest.skip(f"{type(self).__name__} has no take_away: its place is always there")

    async def bring_back(self) -> None:
        """Make the place available again, with all it held."""


def event_id(event: Event) -> UUID:
    """Return the id by which the contract counts ``event``: that of detections or of a dead letter, or of the frame."""
    if isinstance(event, DetectionsMade | DeadLetter):
        return event.id
    if isinstance(event, FrameCaptured):
        return event.frame_id
    raise TypeError(f"the sink contract counts detections, frames and dead letters, not {type(event).__name__}")


def once_each(events: Sequence[Event]) -> Counter[UUID]:
    """Return the count that ``stored`` must give when each of ``events`` is there once."""
    return Counter({event_id(event): 1 for event in events})


class _Slow:
    """A sink whose every write begins late, and says when it has begun."""

    def __init__(self, inner: Sink[Any], delay_s: float) -> None:
        self.name, self.event, self.topics = inner.name, inner.event, inner.topics
        self.open, self.close = inner.open, inner.close
        self.begun = asyncio.Event()
        self._inner = inner
        self._delay_s = delay_s

    async def write(self, events: Sequence[Any]) -> None:
        self.begun.set()
        await asyncio.sleep(self._delay_s)
        await self._inner.write(events)


class SinkContract:
    """All that :class:`infra.consuming.port.Sink` promises; a subclass gives the fixture ``harness``."""

    @pytest.fixture
    def harness(self) -> SinkHarness:
        """Gives the author's sink and the place it writes to."""
        raise NotImplementedError(f"{type(self).__name__} must have a fixture `harness` that gives a SinkHarness")

    @pytest.fixture
    async def site(self, tmp_path: Path) -> Any:
        """An embedded broker in the test's own folder, and the loop that runs a sink."""
        site = SinkSite(tmp_path / "sink-site")
        yield site
        await site.close()

    async def test_written_events_are_stored_once_each(self, harness: SinkHarness) -> None:
        sink, events = harness.make_sink(), [harness.event(number) for number in range(55)]
        await sink.open()
        for first, end in pairwise((0, 1, 3, 6, 10, 15, 21, 28, 36, 45, 55)):
            await sink.write(events[first:end])
        assert Counter(await harness.stored()) == once_each(events)
        await sink.close()

    async def test_write_again_changes_nothing(self, harness: SinkHarness) -> None:
        sink, events = harness.make_sink(), [harness.event(number) for number in range(20)]
        await sink.open()
        await sink.write(events)
        await sink.write(events)
        await sink.write(events[5:9])
        await sink.write(list(reversed(events)))
        assert Counter(await harness.stored()) == once_each(events)
        await sink.close()

    async def test_the_same_event_twice_in_one_batch_is_stored_once(self, harness: SinkHarness) -> None:
        sink, events = harness.make_sink(), [harness.event(number) for number in range(3)]
        await sink.open()
        await sink.write([*events, events[0]])
        assert Counter(await harness.stored()) == once_each(events)
        await sink.close()

    async def test_another_process_may_write_the_same_events(self, harness: SinkHarness) -> None:
        events = [harness.event(number) for number in range(10)]
        for batch in (events[:7], events[4:]):
            sink = harness.make_sink()
            await sink.open()
            await sink.write(batch)
            await sink.close()
        assert Counter(await harness.stored()) == once_each(events)

    async def test_close_of_a_sink_that_was_never_opened_passes(self, harness: SinkHarness) -> None:
        await harness.make_sink().close()
        assert not await harness.stored()

    async def test_poison_record_fails_alone_and_others_are_written(self, harness: SinkHarness) -> None:
        poison = poison_of(harness, 1)
        sink, good = harness.make_sink(), [harness.event(0), harness.event(2)]
        await sink.open()
        with pytest.raises(Exception) as caught:
            await sink.write([good[0], poison, good[1]])
        assert not isinstance(caught.value, TransientError), "an error that is retried for good holds the partition"
        await sink.write(good)
        assert Counter(await harness.stored()) == once_each(good)
        await sink.close()

    async def test_write_while_the_place_is_away_raises_transient_error(self, harness: SinkHarness) -> None:
        sink, events = harness.make_sink(), [harness.event(number) for number in range(5)]
        await sink.open()
        await sink.write(events[:2])
        await harness.take_away()
        try:
            with pytest.raises(TransientError):
                await sink.write(events)
            with pytest.raises(TransientError):
                await harness.make_sink().open()
        finally:
            await harness.bring_back()
        await write_at_last(sink, events)
        assert Counter(await harness.stored()) == once_each(events)
        await sink.close()

    async def test_loop_stores_every_event_once(self, harness: SinkHarness, site: SinkSite) -> None:
        events = [harness.event(number) for number in range(60)]
        sink = harness.make_sink()
        async with site.running(sink):
            for first in range(0, len(events), 15):
                await site.publish(sink.topics[0], events[first : first + 15])
                await until(lambda: _is_done(site, sink), "the sink has not committed everything")
        assert Counter(await harness.stored()) == once_each(events)
        assert await site.dead_letters() == []

    async def test_records_written_but_not_committed_are_delivered_again_and_stored_once(
        self, harness: SinkHarness, site: SinkSite
    ) -> None:
        events = [harness.event(number) for number in range(20)]
        first = harness.make_sink()
        await site.publish(first.topics[0], events)
        site.fail_next_commit()
        with pytest.raises(site.CrashError):
            async with site.running(first) as task:
                await asyncio.wait([task])
        assert await site.lag(first) == len(events)
        second = harness.make_sink()
        async with site.running(second):
            await until(lambda: _is_done(site, second), "the sink has not committed everything")
        assert Counter(await harness.stored()) == once_each(events)

    async def test_stop_during_a_slow_write_loses_nothing(self, harness: SinkHarness, site: SinkSite) -> None:
        events = [harness.event(number) for number in range(6)]
        slow = _Slow(harness.make_sink(), 0.3)
        await site.publish(slow.topics[0], events[:3])
        async with site.running(slow):
            await slow.begun.wait()
        await site.publish(slow.topics[0], events[3:])
        again = harness.make_sink()
        async with site.running(again):
            await until(lambda: _is_done(site, again), "the sink has not committed everything")
        assert Counter(await harness.stored()) == once_each(events)

    async def test_poison_becomes_a_dead_letter_and_the_others_are_stored(
        self, harness: SinkHarness, site: SinkSite
    ) -> None:
        poison, good = poison_of(harness, 4), [harness.event(number) for number in range(8) if number != 4]
        sink = harness.make_sink()
        await site.publish(sink.topics[0], [*good[:4], poison, *good[4:]])
        async with site.running(sink):
            await until(lambda: _is_done(site, sink), "the sink has not committed everything")
        (letter,) = await site.dead_letters()
        assert letter.frame_id in {event_id(poison), getattr(poison, "frame_id", None)}
        assert Counter(await harness.stored()) == once_each(good)

    async def test_loop_waits_for_a_place_that_is_away_and_makes_no_dead_letter(
        self, harness: SinkHarness, site: SinkSite
    ) -> None:
        events = [harness.event(number) for number in range(10)]
        sink = harness.make_sink()
        await site.publish(sink.topics[0], events[:5])
        async with site.running(sink):
            await until(lambda: _is_done(site, sink), "the sink has not committed everything")
            await harness.take_away()
            try:
                await site.publish(sink.topics[0], events[5:])
                await until(lambda: not site.is_ready, "the sink does not say that it waits")
            finally:
                await harness.bring_back()
            await until(lambda: _is_done(site, sink), "the sink has not committed everything")
        assert Counter(await harness.stored()) == once_each(events)
        assert await site.dead_letters() == []


def poison_of(harness: SinkHarness, number: int) -> Event:
    """Return the harness's poison; skips the test where there is none."""
    poison = harness.poison(number)
    if poison is None:
        pytest.skip(f"{type(harness).__name__} has no poison: its place takes every event")
    return poison


async def write_at_last(sink: Sink[Any], events: Sequence[Event]) -> None:
    """Write ``events`` as the loop does: again while the sink raises a TransientError."""
    for _ in range(100):
        with suppress(TransientError):
            await sink.write(events)
            return
        await asyncio.sleep(0.05)
    await sink.write(events)


async def _is_done(site: SinkSite, sink: Sink[Any]) -> bool:
    return await site.lag(sink) == 0
