"""Opens the objects of an S3 server; its client, which is an extra, is loaded when it is needed."""

from __future__ import annotations

from importlib.util import find_spec
from typing import TYPE_CHECKING

from infra.extras import NotInstalledError, install_extra

if TYPE_CHECKING:
    from infra.storage.s3_client import S3Access
    from infra.storage.s3_objects import S3Objects

_LIBRARY = "aiobotocore"


def is_s3_installed() -> bool:
    """Whether the client of S3, an extra, is installed."""
    return find_spec(_LIBRARY) is not None


def require_s3(what: str) -> None:
    """Raise NotInstalledError when the client of S3 is not installed; ``what`` names what is there."""
    if not is_s3_installed():
        raise NotInstalledError(
            f"{what}: S3 needs the library {_LIBRARY!r}, which is not installed; {install_extra('s3')}"
        )


def open_objects(access: S3Access, hint: str) -> S3Objects:
    """Return the objects of the server of ``access``; it connects at the first call.

    ``hint`` says for errors which settings or variables to check. Call :func:`require_s3` before.
    """
    # The library takes a third of a second to load.
    from infra.storage.s3_objects import S3Objects  # noqa: PLC0415

    return S3Objects(access, hint)
