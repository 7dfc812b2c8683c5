"""Defines the base class of all errors, and the errors of events and topics."""

from __future__ import annotations

from typing import ClassVar


class StandgaleError(Exception):
    """Is the base of all errors of Standgale. The text says what happened, why, and what to do."""

    code: ClassVar[str] = "INTERNAL_ERROR"
    """Stable and machine readable; appears in logs, metrics (bounded), dead letters and HTTP bodies"""


class EventError(StandgaleError):
    """A record is not the event that its headers name. The record is wrong, so a retry does not help."""

    code = "INVALID_EVENT"


class EventVersionError(StandgaleError):
    """A record has a newer version of an event than this program knows. Update the program; the record is right."""

    code = "EVENT_TOO_NEW"


class TopicsError(StandgaleError):
    """The topic declarations are wrong."""

    code = "INVALID_TOPICS"
