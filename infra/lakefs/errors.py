"""Defines the errors of a LakeFS server, by what has to be done about them."""

from __future__ import annotations

from infra.errors import RefusedError, TransientError
from schemas.errors import StandgaleError


class LakeFsUnavailableError(TransientError):
    """LakeFS did not respond in time, or responded with an error of its own; the same call may succeed later."""

    code = "LAKEFS_UNAVAILABLE"


class LakeFsRefusedError(RefusedError):
    """LakeFS refuses a call until a person changes a key, a right or a setting."""

    code = "LAKEFS_REFUSED"


class LakeFsProtectedError(LakeFsRefusedError):
    """The branch is protected: nothing may be written to it, or committed on it."""

    code = "LAKEFS_BRANCH_PROTECTED"


class LakeFsNotFoundError(LakeFsRefusedError):
    """There is no such repository, branch, tag or commit."""

    code = "LAKEFS_NOT_FOUND"


class LakeFsAddressError(LakeFsRefusedError):
    """What responds at the address is not the API of LakeFS."""

    code = "LAKEFS_WRONG_ADDRESS"


class LakeFsRequestError(StandgaleError):
    """LakeFS refuses what a request asks for (400); the same request never succeeds."""

    code = "LAKEFS_REQUEST"


class LakeFsConflictError(LakeFsRequestError):
    """Something of that name exists already."""

    code = "LAKEFS_CONFLICT"


class LakeFsObjectMissingError(StandgaleError):
    """There is no object at the path."""

    code = "LAKEFS_OBJECT_MISSING"


class LakeFsObjectGoneError(LakeFsObjectMissingError):
    """The object is listed, but its bytes were deleted."""

    code = "LAKEFS_OBJECT_GONE"


class LakeFsTooLargeError(StandgaleError):
    """An object is larger than may be read."""

    code = "LAKEFS_OBJECT_TOO_LARGE"

    def __init__(self, message: str, size_bytes: int) -> None:
        """``size_bytes``: how many it has at least."""
        super().__init__(message)
        self.size_bytes = size_bytes
