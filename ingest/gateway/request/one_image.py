"""Reads a form with one image while it arrives, so that the image is in memory once."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from infra.http_api.errors.api_errors import ValidationFailedError
from infra.http_api.request.form_stream import FormStream, NextPiece, StreamedPart
from infra.http_api.request.multipart import OVERHEAD_BYTES, FormPart, boundary_of
from ingest.gateway.request.image_parts import IMAGE_PART, MAX_PARTS, ImagePart, one_image, require_field, text_of
from ingest.images.check import image_too_large


@dataclass(slots=True)
class Form:
    """Holds a form: the image's bytes, its file name from the sender, and the other fields in order."""

    image: bytes
    filename: str | None
    fields: list[tuple[str, str]]


async def read_form(
    next_piece: NextPiece,
    content_type: str,
    *,
    max_image_bytes: int,
    max_metadata_bytes: int,
    also: Iterable[str] = (),
) -> Form:
    """Read a whole body. Raises ValidationFailedError unless it is a complete form with exactly one image.

    A field may be as large as the metadata may be, ``max_metadata_bytes``, or a file name in the part headers.
    ``also``: further fields of the endpoint, for error texts. Raises FileTooLargeError for a larger image than
    ``max_image_bytes``.
    """
    limit, image_part = max(max_metadata_bytes, OVERHEAD_BYTES), one_image(also)
    images: list[StreamedPart] = []
    fields: list[tuple[str, str]] = []

    def most_bytes(part: FormPart) -> int:
        if part.name != IMAGE_PART:
            return limit
        # A second one is an error, so it is only counted.
        return 0 if images else max_image_bytes

    async for streamed in FormStream(next_piece, boundary_of(content_type), MAX_PARTS).parts(most_bytes):
        part = streamed.part
        if part.name == IMAGE_PART:
            images.append(streamed)
        else:
            require_field(part, streamed.size_bytes, limit, image_part)
            fields.append((part.name, text_of(part, image_part)))
    image = _only(images, image_part)
    if image.too_large:
        raise image_too_large(image.size_bytes, max_image_bytes, "gateway.max_image_bytes")
    return Form(image.part.data, image.part.filename, fields)


def _only(images: Sequence[StreamedPart], image_part: ImagePart) -> StreamedPart:
    if len(images) != 1:
        raise ValidationFailedError(
            f"the form has {len(images)} parts called {IMAGE_PART}; it must have exactly one",
            details=image_part.hint,
            field=IMAGE_PART,
        )
    if not images[0].size_bytes:
        raise ValidationFailedError(
            f"the part {IMAGE_PART} is empty; it must have the bytes of the picture",
            details="With curl write @ before the file's path: curl -F image=@picture.jpg.",
            field=IMAGE_PART,
        )
    return images[0]
