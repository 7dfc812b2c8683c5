"""Defines the errors of a replay: a source that is away, one that cannot be read, and one item that is refused."""

from __future__ import annotations

from infra.errors import TransientError
from schemas.errors import StandgaleError


class SourceUnavailableError(TransientError):
    """The source does not respond, or its disk is away; the same call may succeed later."""

    code = "SOURCE_UNAVAILABLE"


class SourceError(StandgaleError):
    """The source cannot be read at all, or not further: it is missing, damaged, too large, or not allowed."""

    code = "SOURCE"


class CheckpointError(StandgaleError):
    """The checkpoint cannot be written or read, is used by another process, or belongs to another replay."""

    code = "CHECKPOINT"


class RefusedItemError(StandgaleError):
    """One item of a source is not replayed; the others are."""

    def __init__(self, code: str, message: str) -> None:
        """``code`` is stable, for scripts."""
        super().__init__(message)
        self.reason = code
