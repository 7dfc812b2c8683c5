"""Makes the text of an error for a client that sent a picture, or anything else."""

from __future__ import annotations

from infra.http_api.errors.texts import ErrorText, describe_error
from ingest.images.check import ImageError


def describe_error_of_picture(error: Exception, request_id: str) -> ErrorText:
    """Return the text of ``error``, of any type; never internal details."""
    if isinstance(error, ImageError):
        details = "The content decides, not the name or the Content-Type; the limits are settings of the console."
        return ErrorText(400, error.code, str(error), details, "image")
    return describe_error(error, request_id)
