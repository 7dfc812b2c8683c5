"""Defines the errors of results."""

from __future__ import annotations

from ingest.acceptance.errors import ApiError


class ResultsNotReadyError(ApiError):
    """The job has no results: it has not ended, or it ended without any."""

    code = "RESULTS_NOT_READY"
    status = 404


class VisualizationDisabledError(ApiError):
    """The job was asked for without pictures."""

    code = "VISUALIZATION_DISABLED"
    status = 404
