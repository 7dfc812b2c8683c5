"""Defines why an inference job fails."""

from __future__ import annotations

from schemas.errors import StandgaleError


class JobFailedError(StandgaleError):
    """The job cannot be done; the text is for the person who asked for it."""

    code = "INFERENCE_JOB_FAILED"


class NotDeliveredError(StandgaleError):
    """The results are written, but the call-back was not taken."""

    code = "NOT_DELIVERED"

    def __init__(self, message: str, *, refused: bool = False) -> None:
        """``refused``: the receiver said no, so that trying again does not help."""
        super().__init__(message)
        self.refused = refused
