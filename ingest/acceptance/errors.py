"""Defines the errors for which an image, or the request with it, is not accepted; each has a stable code."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from schemas.errors import StandgaleError


class ApiError(StandgaleError):
    """A request gets an error response; ``message`` is for people and never contains a secret."""

    code = "BAD_REQUEST"
    status = 400

    def __init__(
        self,
        message: str,
        *,
        details: str | None = None,
        field: str | None = None,
        headers: Mapping[str, str] | None = None,
        errors: Sequence[Mapping[str, str]] = (),
    ) -> None:
        """``field`` names the wrong parameter, ``details`` says what to do, ``errors`` lists several faults."""
        super().__init__(message)
        self.details = details
        self.field = field
        self.headers = dict(headers or {})
        self.errors = tuple(errors)


class ValidationFailedError(ApiError):
    """A parameter is unknown, missing, or wrong."""

    code = "VALIDATION_ERROR"


class InvalidCaptureTimeError(ApiError):
    """The capture time is missing, malformed, or in the future."""

    code = "INVALID_CAPTURE_TIME"


class UnauthorizedError(ApiError):
    """No token, or one that is unknown or revoked."""

    code = "UNAUTHORIZED"
    status = 401


class ForbiddenError(ApiError):
    """The token is valid, but for a different device."""

    code = "ACCESS_DENIED"
    status = 403


class OverloadedError(ApiError):
    """The gateway has as many uploads in progress as it accepts; nothing was read."""

    code = "OVERLOADED"
    status = 503


class DigestMismatchError(ApiError):
    """The image that was sent has another SHA-256 than the request says."""

    code = "DIGEST_MISMATCH"


class ImageNotStoredError(ApiError):
    """The request names an image by its SHA-256 that is not stored: the client has to send its bytes."""

    code = "IMAGE_NOT_STORED"
    status = 404
