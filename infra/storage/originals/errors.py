"""Defines the errors of uploads that the uploading client causes."""

from __future__ import annotations

from schemas.errors import StandgaleError


class UploadError(StandgaleError):
    """The upload cannot be taken as it was sent."""

    code = "UPLOAD_REFUSED"


class WrongContentError(UploadError):
    """What was uploaded has another SHA-256 or size than was said."""

    code = "DIGEST_MISMATCH"


class BadSignatureError(UploadError):
    """The address is not one that was granted, or not any more."""

    code = "UPLOAD_REFUSED"


class WrongOffsetError(UploadError):
    """The upload does not continue where the part that is here ends; ``offset`` says where that is."""

    code = "WRONG_OFFSET"

    def __init__(self, message: str, offset: int) -> None:
        super().__init__(message)
        self.offset = offset


class UploadInProgressError(UploadError):
    """Another request writes the same upload now."""

    code = "UPLOAD_IN_PROGRESS"
