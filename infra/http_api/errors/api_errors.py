"""Defines the errors that a request to any HTTP API may get; each has a stable code and a status."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from infra.extras import install_extra
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


class UnauthorizedError(ApiError):
    """No token, or one that is unknown or revoked."""

    code = "UNAUTHORIZED"
    status = 401


class OverloadedError(ApiError):
    """The service has as much in progress as it accepts; nothing was read."""

    code = "OVERLOADED"
    status = 503


class UploadIncompleteError(ApiError):
    """The client disconnected before its body was complete; it does not receive this response, but it is counted."""

    code = "UPLOAD_INCOMPLETE"


class UploadTimeoutError(ApiError):
    """The body was sent too slowly."""

    code = "UPLOAD_TIMEOUT"
    status = 408


class ExtraMissingError(ApiError):
    """The service cannot do what is asked, because an extra is not installed; ``message`` says what needs it."""

    code = "NOT_INSTALLED"
    status = 501

    def __init__(self, message: str, *extras: str, field: str | None = None) -> None:
        """``extras``: the names of what is to be installed."""
        super().__init__(message, details=f"Tell the operator: {install_extra(*extras)}.", field=field)


class UnsupportedMediaTypeError(ApiError):
    """The request's Content-Type is not one that its path takes."""

    code = "UNSUPPORTED_MEDIA_TYPE"
    status = 415
