"""The root of every error Standgale raises; its types answer what a caller asks: may I try again?"""

from __future__ import annotations

from typing import ClassVar


class StandgaleError(Exception):
    """Something Standgale can name. The text says what happened, why, and what to do about it.

    ``code`` is stable and machine readable; it appears in logs, metrics (bounded), dead letters and HTTP bodies.
    """

    code: ClassVar[str] = "INTERNAL_ERROR"


class EventError(StandgaleError):
    """A record is not the event it claims to be; retrying cannot help, the record itself is at fault."""

    code = "INVALID_EVENT"


class EventVersionError(StandgaleError):
    """A record holds a newer version of an event than this program knows: update the program, not the record."""

    code = "EVENT_TOO_NEW"


class TopicsError(StandgaleError):
    """The topic declarations are wrong."""

    code = "INVALID_TOPICS"
