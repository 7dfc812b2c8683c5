"""A sink into a list keeps the sink contract; it shows what the contract asks for, and needs no server."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from uuid import UUID

import pytest

from infra.errors import RecordError, TransientError
from schemas.event_base import Event
from schemas.events import FrameCaptured
from schemas.topics import FRAMES_LIVE
from standgale.testing.sink import SinkContract, SinkHarness
from standgale.testing.sink_site import SinkSite

POISON = "poison"


@dataclass
class Place:
    """Where the frames go."""

    frames: list[UUID] = field(default_factory=list)
    is_away: bool = False

    def require(self) -> None:
        if self.is_away:
            raise TransientError("the list does not respond")


class ListSink:
    name = "list"
    event = FrameCaptured
    topics = (FRAMES_LIVE,)

    def __init__(self, place: Place) -> None:
        self._place = place

    async def open(self) -> None:
        self._place.require()

    async def write(self, events: Sequence[FrameCaptured]) -> None:
        self._place.require()
        if any(event.original_filename == POISON for event in events):
            raise RecordError("a poisoned frame")
        for event in events:
            if event.frame_id not in self._place.frames:
                self._place.frames.append(event.frame_id)

    async def close(self) -> None:
        return


class ListHarness(SinkHarness):
    def __init__(self) -> None:
        self.place = Place()

    def make_sink(self) -> ListSink:
        return ListSink(self.place)

    async def stored(self) -> Collection[UUID]:
        return self.place.frames

    def poison(self, number: int) -> Event:
        return self.event(number).model_copy(update={"original_filename": POISON})

    async def take_away(self) -> None:
        self.place.is_away = True

    async def bring_back(self) -> None:
        self.place.is_away = False


class ForgetfulSink(ListSink):
    def __init__(self, place: Place, nth: int) -> None:
        super().__init__(place)
        self._nth, self._writes = nth, 0

    async def write(self, events: Sequence[FrameCaptured]) -> None:
        self._writes += 1
        if self._writes % self._nth:
            await super().write(events)


class ForgetfulHarness(ListHarness):
    def __init__(self, nth: int) -> None:
        super().__init__()
        self._nth = nth

    def make_sink(self) -> ForgetfulSink:
        return ForgetfulSink(self.place, self._nth)


@pytest.mark.parametrize("nth", [2, 3, 4, 7, 10])
async def test_contract_finds_a_sink_that_drops_every_nth_write(nth: int) -> None:
    with pytest.raises(AssertionError):
        await SinkContract().test_written_events_are_stored_once_each(ForgetfulHarness(nth))


@pytest.mark.parametrize("nth", [2, 3, 4])
async def test_contract_finds_a_sink_that_drops_writes_of_the_loop(nth: int, tmp_path: Path) -> None:
    site = SinkSite(tmp_path)
    with pytest.raises(AssertionError):
        await SinkContract().test_loop_stores_every_event_once(ForgetfulHarness(nth), site)
    await site.close()


class TestListSink(SinkContract):
    @pytest.fixture
    def harness(self) -> ListHarness:
        return ListHarness()
