"""Defines the errors of requests about jobs."""

from __future__ import annotations

from infra.http_api.errors.api_errors import ApiError


class JobNotFoundError(ApiError):
    """The client has no such job; that of another client is none of its own."""

    code = "JOB_NOT_FOUND"
    status = 404


class RequestKeyReusedError(ApiError):
    """The client has sent another request with the same key."""

    code = "IDEMPOTENCY_KEY_REUSED"
    status = 409


class TooManyJobsError(ApiError):
    """The client has as many jobs that have not ended as it may have."""

    code = "TOO_MANY_JOBS"
    status = 409


class JobEndedError(ApiError):
    """The job has ended, so it cannot be cancelled."""

    code = "JOB_ENDED"
    status = 409


class NothingToRetryError(ApiError):
    """The job has no failed files, or has not ended yet."""

    code = "NOTHING_TO_RETRY"
    status = 409
