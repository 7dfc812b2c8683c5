"""The errors of the infrastructure: the whole tree, from "try again" to "somebody must change a setting"."""

from __future__ import annotations

from typing import ClassVar

from schemas.errors import StandgaleError


class TransientError(StandgaleError):
    """The world is in the way just now (connection, time-out, 5xx); the same call may succeed later. Nothing was
    lost."""

    code: ClassVar[str] = "UNAVAILABLE"


class BrokerUnavailableError(TransientError):
    """The broker did not answer in time or refused the connection."""

    code = "BROKER_UNAVAILABLE"


class StoreUnavailableError(TransientError):
    """The frame store did not answer in time or answered with a fault of its own."""

    code = "STORAGE_UNAVAILABLE"


class StoreFullError(StoreUnavailableError):
    """The frame store has no room for more: the disk or a quota is full, or a setting is reached. Somebody must act."""

    code = "STORAGE_FULL"


class DatabaseUnavailableError(TransientError):
    """The database did not answer in time, is starting up, or went away."""

    code = "DATABASE_UNAVAILABLE"


class TooSlowError(TransientError):
    """What was asked took longer than the time limit; the same in smaller parts may be done in time."""

    code = "TOO_SLOW"


class RefusedError(TransientError):
    """The other side refuses us (password, privilege, right, missing table) until a person changes something.

    The same call then succeeds, so it is held and tried again; the text names what is refused, and the remedy.
    """

    code = "REFUSED"


class TopicMismatchError(TransientError):
    """A topic on the broker is missing, or is not what topics.yaml declares. Held until a person acts."""

    code = "TOPIC_MISMATCH"


class RecordError(StandgaleError):
    """One record fails by itself, now and always; it belongs to the dead letters, the stream goes on."""

    code: ClassVar[str] = "RECORD_ERROR"


class RecordTooLargeError(RecordError):
    """A record is larger than its topic takes."""

    code = "RECORD_TOO_LARGE"


class ImageMissingError(RecordError):
    """The frame store does not hold the image an event points to."""

    code = "IMAGE_MISSING"


class ImageCorruptError(RecordError):
    """The stored bytes do not have the hash the event names, or are no decodable image."""

    code = "IMAGE_CORRUPT"


class PartitionLostError(StandgaleError):
    """This consumer no longer owns the partition; nothing was committed. Drop the work and poll on."""

    code = "PARTITION_LOST"


class GroupError(StandgaleError):
    """A consumer group cannot be forgotten: it has members, or there is none of that name."""

    code = "GROUP_NOT_FORGOTTEN"


class SettingsError(StandgaleError):
    """A setting is missing or wrong; the text names it, the value received, and what it takes."""

    code = "INVALID_SETTING"
