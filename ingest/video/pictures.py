"""Makes JPEG pictures of decoded frames, in the colours and the position in which a player shows them."""

from __future__ import annotations

from typing import TYPE_CHECKING, SupportsBytes

import numpy as np
import simplejpeg
from numpy.typing import NDArray

from infra.images.errors import UnreadableImageError
from infra.images.jpeg import DQT, EOI, FRAMES, SOI, SOS, JpegFrame, read_frame, segments
from ingest.video.selection import THUMBNAIL_PX, Thumbnail

if TYPE_CHECKING:
    from av import VideoFrame as DecodedPicture

Plane = NDArray[np.uint8]
_DHT = 0xC4


class PictureMaker:
    """Converts frames of one source; not for several threads at once."""

    def __init__(self, quality: int) -> None:
        """Write JPEG of ``quality``, 1 to 100."""
        from av.video.reformatter import VideoReformatter  # noqa: PLC0415 (an extra)

        self._quality = quality
        self._colours = VideoReformatter()
        self._thumbnails = VideoReformatter()

    def jpeg(self, picture: DecodedPicture) -> tuple[bytes, int, int]:
        """Return the JPEG of ``picture`` with its width and height, turned as its metadata asks.

        Video has brightness 16 to 235 and often colours of BT.709; JPEG has 0 to 255 and BT.601.
        """
        planes = self._planes(picture)
        turns = _quarter_turns(picture.rotation)
        if turns:
            planes = [np.ascontiguousarray(np.rot90(plane, turns)) for plane in planes]
        height, width = planes[0].shape
        data: bytes = simplejpeg.encode_jpeg_yuv_planes(*planes, quality=self._quality)
        return data, width, height

    def as_it_came(self, jpeg: bytes, picture: DecodedPicture) -> tuple[bytes, int, int] | None:
        """Return ``jpeg``, which ``picture`` was decoded from, with its size; None where it is to be written anew.

        That is so where it is shown turned, or holds one of two fields only.
        """
        frame = _frame_of(jpeg)
        if _quarter_turns(picture.rotation) or frame is None:
            return None
        size = (frame.width, frame.height)
        return (jpeg, *size) if size == (picture.width, picture.height) and not frame.progressive else None

    def bgr(self, picture: DecodedPicture) -> NDArray[np.uint8]:
        """Return ``picture`` as uint8 (h, w, 3) BGR, turned as its metadata asks."""
        image = picture.to_ndarray(format="bgr24").astype(np.uint8, copy=False)
        turns = _quarter_turns(picture.rotation)
        return np.ascontiguousarray(np.rot90(image, turns)) if turns else image

    def thumbnail(self, picture: DecodedPicture) -> Thumbnail:
        """Return the brightness of ``picture``, made small."""
        width, height = THUMBNAIL_PX
        small = self._thumbnails.reformat(picture, width=width, height=height, format="gray", interpolation="AREA")
        return _plane(small, 0, width, height).copy()

    def _planes(self, picture: DecodedPicture) -> list[Plane]:
        from av.video.reformatter import ColorRange, Colorspace  # noqa: PLC0415 (an extra)

        if not (picture.format.name == "yuvj420p" and picture.colorspace in (2, 5, 6)):
            picture = self._colours.reformat(
                picture,
                format="yuvj420p",
                dst_colorspace=Colorspace.ITU601,
                dst_color_range=ColorRange.JPEG,
            )
        width, height = picture.width, picture.height
        sides = ((width, height), ((width + 1) // 2, (height + 1) // 2), ((width + 1) // 2, (height + 1) // 2))
        return [_plane(picture, index, *size) for index, size in enumerate(sides)]


def whole_jpeg(packet: SupportsBytes) -> bytes | None:
    """Return the content of ``packet`` where it is a JPEG with all its tables, from its begin to its end."""
    data = bytes(packet).rstrip(b"\0")
    if not data.startswith(bytes((0xFF, SOI))) or not data.endswith(bytes((0xFF, EOI))):
        return None
    return data if _frame_of(data) is not None else None


def _frame_of(data: bytes) -> JpegFrame | None:
    """Return the frame of a JPEG; None where it is damaged, or lacks tables, as in many AVI files."""
    frame: JpegFrame | None = None
    found: set[int] = set()
    try:
        for marker, start, end in segments(data):
            found.add(marker)
            if marker in FRAMES:
                frame = read_frame(data, marker, start, end)
            if marker == SOS:
                break
    except UnreadableImageError:
        return None
    return frame if {_DHT, DQT, SOS} <= found else None


def _plane(picture: DecodedPicture, index: int, width: int, height: int) -> Plane:
    """Return one plane without the bytes that end its lines."""
    plane = picture.planes[index]
    lines = np.frombuffer(memoryview(plane), np.uint8, count=plane.line_size * height).reshape(height, plane.line_size)
    return np.ascontiguousarray(lines[:, :width])


def _quarter_turns(degrees: int) -> int:
    """Return how often to turn a picture by 90 degrees against the clock."""
    return round(degrees / 90) % 4
