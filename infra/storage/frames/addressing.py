"""Where a frame lies: the content address ``ab/<sha256>.<ext>``, made and read in one place."""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass

from infra.errors import ImageCorruptError, ImageMissingError
from schemas.events import ImageRef

_EXTENSIONS = {"image/jpeg": "jpg", "image/png": "png", "image/tiff": "tif", "image/webp": "webp"}
_SHA256 = re.compile(r"[0-9a-f]{64}")
_ADDRESS = re.compile(r"(?:^|/)(?P<ab>[0-9a-f]{2})/(?P<sha256>[0-9a-f]{64})\.(?P<ext>[a-z]{3,4})$")


@dataclass(frozen=True, slots=True)
class ContentAddress:
    """An object's place below the root of a store; one level of 256 folders keeps each one small.

    A second level would cost every new frame the making and syncing of a folder of its own.
    """

    sha256: str
    extension: str

    @property
    def relative(self) -> str:
        """``ab/<sha256>.<ext>``; by construction it cannot climb out of a root."""
        return f"{self.sha256[:2]}/{self.sha256}.{self.extension}"

    @classmethod
    def of(cls, sha256: str, media_type: str) -> ContentAddress:
        """The address of new content. Raises ValueError for what is no hash or no media type of an image."""
        if not _SHA256.fullmatch(sha256):
            raise ValueError(f"{sha256!r} is no SHA-256: it takes 64 lower-case hexadecimal digits")
        try:
            return cls(sha256, _EXTENSIONS[media_type])
        except KeyError:
            raise ValueError(f"{media_type!r} is no image media type; known are {', '.join(_EXTENSIONS)}") from None

    @classmethod
    def in_path(cls, path: str) -> ContentAddress | None:
        """The content address that ``path`` ends with, or None when it ends with something else."""
        match = _ADDRESS.search(path)
        if match is None or match["sha256"][:2] != match["ab"]:
            return None
        if match["ext"] not in _EXTENSIONS.values():
            return None
        return cls(match["sha256"], match["ext"])


def verify(image: ImageRef, data: bytes) -> bytes:
    """``data`` when it has the size and hash that ``image`` names; raises ImageCorruptError otherwise."""
    if len(data) != image.size_bytes:
        raise wrong_size_error(image, len(data))
    found = hashlib.sha256(data).hexdigest()
    if found != image.sha256:
        raise ImageCorruptError(
            f"the bytes at {image.uri} have SHA-256 {found}, the event names {image.sha256}: the stored object was "
            "changed or damaged; send the frame again after deleting the object"
        )
    return data


def wrong_size_error(image: ImageRef, size_bytes: int) -> ImageCorruptError:
    """The error for an object of ``size_bytes`` where ``image`` names another size."""
    return ImageCorruptError(
        f"the object at {image.uri} has {size_bytes} bytes, the event names {image.size_bytes}: the stored object was "
        "changed or damaged; send the frame again after deleting the object"
    )


def outside_error(uri: str, store: str) -> ImageMissingError:
    """The error for an address that ``store`` (its own address) does not serve."""
    return ImageMissingError(
        f"the address {uri!r} is not one of the frame store at {store}: it takes addresses it made itself, ending in "
        "ab/<sha256>.<ext>; check that STANDGALE_FRAMES__* is the same for every service"
    )
