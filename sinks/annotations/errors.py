"""Defines what may become of a post that was not taken."""

from __future__ import annotations

from infra.errors import RecordError, RefusedError, TransientError


class AnnotationsUnavailableError(TransientError):
    """The Annotations service cannot be reached, or fails; the posts are tried again."""

    code = "ANNOTATIONS_UNAVAILABLE"


class AnnotationsAddressError(RefusedError):
    """The address of the Annotations service is another one; a person must correct it."""

    code = "ANNOTATIONS_ADDRESS"


class AnnotationRefusedError(RecordError):
    """The Annotations service refused a post for good; the text has its response."""

    code = "ANNOTATION_REFUSED"


class AnnotationFailedError(RecordError):
    """A post failed for as long as it is tried."""

    code = "ANNOTATION_FAILED"


class TokenForgottenError(RecordError):
    """There is no token any more with which the post could be made."""

    code = "ANNOTATION_TOKEN_FORGOTTEN"
