"""The frames that are waited for are limited, in total and for each device."""

from __future__ import annotations

from contextlib import ExitStack

import pytest

from infra.http_api.errors.api_errors import OverloadedError
from ingest.answers.places import WaitingPlaces


def most_of(places: WaitingPlaces, device_id: str, stack: ExitStack, count: int = 1) -> int:
    """Take places for one device until it gets no more, and return how many it got."""
    for number in range(1_000):
        try:
            stack.enter_context(places.reserve(device_id, count))
        except OverloadedError:
            return number * count
    raise AssertionError("there is no limit")


def test_waiting_places_of_one_device_are_at_most_half() -> None:
    places = WaitingPlaces(100)
    with ExitStack() as stack:
        assert most_of(places, "greedy", stack) == 50
        assert most_of(places, "second", stack) == 25
        with places.reserve("third"):
            pass
    with ExitStack() as stack:
        assert most_of(places, "another", stack, 10) == 50


def test_waiting_places_are_limited_in_total_and_given_back() -> None:
    places = WaitingPlaces(10)
    with places.reserve("a", 10), pytest.raises(OverloadedError, match=r"gateway\.max_waiting"), places.reserve("b"):
        raise AssertionError("there was no place")
    with pytest.raises(ValueError, match="inside"), places.reserve("a", 10):
        raise ValueError("inside")
    with places.reserve("a", 10):
        pass
    assert places._devices == {}


def test_shrinking_gives_back_what_a_batch_does_not_need() -> None:
    places = WaitingPlaces(10)
    with places.reserve("a", 8) as own:
        places.shrink(own, 2)
        with places.reserve("b", 8):
            pass
        places.shrink(own, 5)
        assert own.count == 2
    with places.reserve("b", 10):
        pass
