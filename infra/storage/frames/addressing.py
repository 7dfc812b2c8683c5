"""Makes and reads the content address of a frame, ``ab/<sha256>.<ext>``, and checks content against it."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol

from infra.errors import ImageCorruptError, ImageMissingError
from schemas.events import EXTENSIONS

_SHA256 = re.compile(r"[0-9a-f]{64}")
_ADDRESS = re.compile(r"(?:^|/)(?P<ab>[0-9a-f]{2})/(?P<sha256>[0-9a-f]{64})\.(?P<ext>[a-z]{3,4})$")

OTHER = "application/octet-stream"
"""The media type of content that is no picture: a video that waits to be read."""
_ENDINGS: Mapping[str, str] = {**EXTENSIONS, OTHER: "bin"}


class StoredContent(Protocol):
    """Says where the bytes of something are, and how to check them; `ImageRef` is one."""

    @property
    def uri(self) -> str:
        """Address in the frame store."""
        ...

    @property
    def sha256(self) -> str:
        """Hexadecimal."""
        ...

    @property
    def size_bytes(self) -> int:
        """How many they are."""
        ...


@dataclass(frozen=True, slots=True)
class ContentAddress:
    """Locates an object below the root of a store; one level of 256 folders keeps each folder small.

    With a second level, a new folder would have to be created and synced for nearly every new frame.
    """

    sha256: str
    extension: str

    @property
    def relative(self) -> str:
        """``ab/<sha256>.<ext>``; it cannot lead out of the root."""
        return f"{self.sha256[:2]}/{self.sha256}.{self.extension}"

    @classmethod
    def of(cls, sha256: str, media_type: str) -> ContentAddress:
        """Return the address of new content. Raises ValueError for a wrong hash or media type."""
        if not _SHA256.fullmatch(sha256):
            raise ValueError(f"{sha256!r} is not a SHA-256, which has 64 lower-case hexadecimal digits")
        try:
            return cls(sha256, _ENDINGS[media_type])
        except KeyError:
            raise ValueError(f"{media_type!r} is no image media type; known are {', '.join(_ENDINGS)}") from None

    @classmethod
    def all_of(cls, sha256: str) -> tuple[ContentAddress, ...]:
        """Return where content with that hash may be: one address for each kind of image. Raises ValueError."""
        return tuple(cls.of(sha256, media_type) for media_type in EXTENSIONS)

    @classmethod
    def in_path(cls, path: str) -> ContentAddress | None:
        """Return the content address at the end of ``path``, or None when there is none."""
        match = _ADDRESS.search(path)
        if match is None or match["sha256"][:2] != match["ab"]:
            return None
        if match["ext"] not in _ENDINGS.values():
            return None
        return cls(match["sha256"], match["ext"])


def verify(image: StoredContent, data: bytes) -> bytes:
    """Return ``data`` if it has the size and hash that ``image`` names; raise ImageCorruptError otherwise."""
    if len(data) != image.size_bytes:
        raise wrong_size_error(image, len(data))
    require_digest(image, hashlib.sha256(data).hexdigest())
    return data


def require_digest(image: StoredContent, found: str) -> None:
    """Raise ImageCorruptError unless ``found``, the SHA-256 of what is stored, is that of ``image``."""
    if found != image.sha256:
        raise ImageCorruptError(
            f"the bytes at {image.uri} have SHA-256 {found}, the event names {image.sha256}: the stored object was "
            "changed or damaged; send the frame again after deleting the object"
        )


def wrong_size_error(image: StoredContent, size_bytes: int) -> ImageCorruptError:
    """Return the error for an object of ``size_bytes`` when ``image`` names a different size."""
    return ImageCorruptError(
        f"the object at {image.uri} has {size_bytes} bytes, the event names {image.size_bytes}: the stored object was "
        "changed or damaged; send the frame again after deleting the object"
    )


def outside_error(uri: str, store: str) -> ImageMissingError:
    """Return the error for an address outside of ``store`` (the address of the store)."""
    return ImageMissingError(
        f"the address {uri!r} is not one of the frame store at {store}, whose addresses end in "
        "ab/<sha256>.<ext>; check that STANDGALE_FRAMES__* is the same for every service"
    )
