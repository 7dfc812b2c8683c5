"""Defines the errors of results."""

from __future__ import annotations

from console.uploads.errors import FileExpiredError
from infra.http_api.errors.api_errors import ApiError


class ResultsNotReadyError(ApiError):
    """The job has no results: it has not ended, or it ended without any."""

    code = "RESULTS_NOT_READY"
    status = 404


class VisualizationDisabledError(ApiError):
    """The job was asked for without pictures."""

    code = "VISUALIZATION_DISABLED"
    status = 404


def file_expired(filename: str) -> FileExpiredError:
    """Return the error for a file whose bytes are gone."""
    return FileExpiredError(
        f"the bytes of {filename} were removed with their upload",
        details="Uploads are kept for some days (console.upload_days); results stay.",
        field="file_id",
    )
