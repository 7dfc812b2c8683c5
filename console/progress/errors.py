"""Defines the error of a stream of progress."""

from __future__ import annotations

from infra.http_api.errors.api_errors import ApiError

_RETRY_AFTER_S = 5


class TooManyWatchersError(ApiError):
    """As many streams of progress are open as the settings allow."""

    code = "TOO_MANY_WATCHERS"
    status = 503

    def __init__(self, count: int, setting: str) -> None:
        """``count`` streams are open, as many as ``setting`` allows."""
        super().__init__(
            f"{count} streams of progress are open, which is the limit ({setting})",
            details="Close some of them, ask for the job's status instead, or try again.",
            headers={"Retry-After": str(_RETRY_AFTER_S)},
        )
