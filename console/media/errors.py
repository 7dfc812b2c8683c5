"""Defines the errors of media: those of requests, and those that end the work on a medium."""

from __future__ import annotations

from infra.http_api.errors.api_errors import ApiError
from schemas.errors import StandgaleError


class MediaNotFoundError(ApiError):
    """The client has no such medium; that of another client is none of its own."""

    code = "MEDIA_NOT_FOUND"
    status = 404


class MediaRunningError(ApiError):
    """The medium is being detected already."""

    code = "MEDIA_RUNNING"
    status = 409


class TooManyMediaError(ApiError):
    """The client has as many media that have not ended as it may have."""

    code = "TOO_MANY_MEDIA"
    status = 409


class DetectionTimeoutError(ApiError):
    """No detector has answered in time."""

    code = "DETECTION_TIMEOUT"
    status = 504


class FrameFailedError(ApiError):
    """The detectors could not process the picture; ``code`` is that of a job's file."""

    status = 422

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code  # type: ignore[misc]  # it is one of several


class MediumError(StandgaleError):
    """The work on a medium ends without results."""

    code = "MEDIA_ERROR"


class MediumFetchError(MediumError):
    """The bytes of a medium cannot be fetched; the text has no secret."""

    code = "MEDIA_FETCH_FAILED"


class UnauthorizedFetchError(MediumFetchError):
    """The server of a medium wants another token, or one at all."""


class MediumTooLargeError(MediumError):
    """The medium has more bytes, or more frames, than the settings allow."""

    code = "MEDIA_TOO_LARGE"


class LeaseLostError(StandgaleError):
    """Another process works on the medium now, or it was removed."""

    code = "LEASE_LOST"
