"""Defines why retention removes nothing: it is held until something changes, or a person must look."""

from __future__ import annotations

from infra.errors import TransientError
from schemas.errors import StandgaleError


class RetentionBusyError(TransientError):
    """Another process removes frames now, or was killed while it did and its lease has not ended."""

    code = "RETENTION_BUSY"


class RetentionHeldError(TransientError):
    """Nothing can be removed yet: a consumer group has not read what names the frames, or clocks disagree."""

    code = "RETENTION_HELD"


class StoresDifferError(TransientError):
    """So many pictures have no row, or rows no picture, that store and database probably do not belong together."""

    code = "RETENTION_STORES_DIFFER"


class PinError(StandgaleError):
    """A pin cannot be made or removed; the text says why."""

    code = "INVALID_PIN"
