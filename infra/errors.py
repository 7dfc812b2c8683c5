"""Defines the errors of the infrastructure: transient ones, those of one record, and wrong settings."""

from __future__ import annotations

from typing import ClassVar

from schemas.errors import StandgaleError


class TransientError(StandgaleError):
    """A connection, a time limit or a server failed (5xx); the same call may succeed later, and nothing was lost."""

    code: ClassVar[str] = "UNAVAILABLE"


class BrokerUnavailableError(TransientError):
    """The broker did not respond in time or refused the connection."""

    code = "BROKER_UNAVAILABLE"


class StoreUnavailableError(TransientError):
    """The frame store did not respond in time or responded with an error."""

    code = "STORAGE_UNAVAILABLE"


class StoreFullError(StoreUnavailableError):
    """The disk, a quota or the limit of a setting is full; an operator must act."""

    code = "STORAGE_FULL"


class DatabaseUnavailableError(TransientError):
    """The database did not respond in time, is starting, or has stopped."""

    code = "DATABASE_UNAVAILABLE"


class TooSlowError(TransientError):
    """A call took longer than its time limit; with fewer records it may end in time."""

    code = "TOO_SLOW"


class RefusedError(TransientError):
    """A server refuses a call (password, privilege, right, missing table) until a person changes something.

    The same call then succeeds, so it is tried again; the text names what is refused, and the remedy.
    """

    code = "REFUSED"


class TopicMismatchError(TransientError):
    """A topic on the broker is missing, or differs from topics.yaml, until a person acts."""

    code = "TOPIC_MISMATCH"


class RecordError(StandgaleError):
    """One record fails now and always; it becomes a dead letter, and the stream continues."""

    code: ClassVar[str] = "RECORD_ERROR"
    counts: bool = True
    """Whether the share of dead letters counts it; set it to False where another record was counted for the same cause,
    such as the one token of all records of a client, so that one client does not hold the records of the others"""


class RecordTooLargeError(RecordError):
    """A record is larger than its topic accepts."""

    code = "RECORD_TOO_LARGE"


class ImageMissingError(RecordError):
    """The frame store does not hold the image an event points to."""

    code = "IMAGE_MISSING"


class ImageCorruptError(RecordError):
    """The stored bytes do not have the hash the event names, or are not an image."""

    code = "IMAGE_CORRUPT"


class PartitionLostError(StandgaleError):
    """This consumer no longer owns the partition; nothing was committed. Drop its work and continue polling."""

    code = "PARTITION_LOST"


class GroupError(StandgaleError):
    """A consumer group cannot be deleted: it has members, or no group has that name."""

    code = "GROUP_NOT_FORGOTTEN"


class SettingsError(StandgaleError):
    """A setting is missing or wrong; the text names it, the value received, and the possible values."""

    code = "INVALID_SETTING"
