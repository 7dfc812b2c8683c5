"""Defines the errors for which an image, or the request with it, is not accepted; each has a stable code."""

from __future__ import annotations

from infra.http_api.errors.api_errors import ApiError


class InvalidCaptureTimeError(ApiError):
    """The capture time is missing, malformed, or in the future."""

    code = "INVALID_CAPTURE_TIME"


class ForbiddenError(ApiError):
    """The token is valid, but for a different device."""

    code = "ACCESS_DENIED"
    status = 403


class DigestMismatchError(ApiError):
    """The image that was sent has another SHA-256 than the request says."""

    code = "DIGEST_MISMATCH"


class ImageNotStoredError(ApiError):
    """The request names an image by its SHA-256 that is not stored: the client has to send its bytes."""

    code = "IMAGE_NOT_STORED"
    status = 404
