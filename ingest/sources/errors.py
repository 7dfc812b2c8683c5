"""Defines the errors of sources that are pulled."""

from __future__ import annotations

from infra.errors import RecordError, TransientError
from schemas.errors import StandgaleError


class SourceError(StandgaleError):
    """A command on a source cannot be done, or a source cannot be read as it is; the text says what to do."""

    code = "INVALID_SOURCE"


class LeaseLostError(StandgaleError):
    """This process no longer has the source, so it publishes none of its frames any more."""

    code = "LEASE_LOST"


class AcceptanceBusyError(TransientError):
    """No frames are accepted now, because the detectors are too far behind; it is tried again."""

    code = "DETECTORS_BEHIND"


class FrameRefusedError(RecordError):
    """The acceptance refuses a frame for good."""

    code = "FRAME_REFUSED"
