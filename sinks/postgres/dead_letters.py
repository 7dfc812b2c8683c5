"""Reads the original events of dead letters."""

from __future__ import annotations

from typing import TypeVar

from schemas.cloudevents import decode
from schemas.errors import EventError, EventVersionError
from schemas.event_base import Event
from schemas.events import DeadLetter

EventT = TypeVar("EventT", bound=Event)


def original_of(letter: DeadLetter, expected: type[EventT]) -> EventT | None:
    """Return the event in ``letter``; None where it has no such one: of lost records, and of what was no event."""
    original = letter.original
    if original.value is None:
        return None
    try:
        return decode(tuple(original.headers), original.value, expected)
    except (EventError, EventVersionError):
        return None
