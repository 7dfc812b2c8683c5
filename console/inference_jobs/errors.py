"""Defines the errors of inference jobs."""

from __future__ import annotations

from infra.http_api.errors.api_errors import ApiError


class InferenceJobNotFoundError(ApiError):
    """There is no such inference job of this client."""

    code = "INFERENCE_JOB_NOT_FOUND"
    status = 404


class InferenceJobEndedError(ApiError):
    """The job has ended otherwise than the call-back says; nothing was changed."""

    code = "INFERENCE_JOB_ENDED"
    status = 409


class ForeignPathError(ApiError):
    """A path of a request is outside what this client may name."""

    code = "PATH_REFUSED"
    status = 403


def job_not_found(job_id: int | str) -> InferenceJobNotFoundError:
    """Return the error for a job that this client does not have."""
    return InferenceJobNotFoundError(f"there is no inference job {str(job_id)[:60]}", field="inference_job_id")
