"""Says which parts a form with images has, and checks the parts that are none."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from infra.http_api.errors.api_errors import ValidationFailedError
from infra.http_api.request.multipart import FormPart
from ingest.acceptance.fields import KNOWN_FIELDS

IMAGE_PART = "image"
MAX_PARTS = 32


@dataclass(frozen=True, slots=True)
class ImagePart:
    """Says what the parts with images are called, and how to send them, for error texts."""

    name: str
    hint: str


def one_image(also: Iterable[str] = ()) -> ImagePart:
    """Return what the part with the image is called at an endpoint that takes one, and the fields ``also``, too."""
    return ImagePart(
        IMAGE_PART,
        f'Send exactly one part with the image, as "curl -F {IMAGE_PART}=@picture.jpg" does; many images at once go to '
        f"/api/v1/detect/batch. The other parts are fields: {', '.join((*KNOWN_FIELDS, *also))}.",
    )


def require_field(part: FormPart, size_bytes: int, limit: int, images: ImagePart) -> None:
    """Raise ValidationFailedError for a part that is a picture under another name, has no name, or is too large.

    ``size_bytes`` is the size of its content, which is left out where it is too large.
    """
    shown = part.name[:60]
    is_file = part.filename is not None and part.name not in KNOWN_FIELDS
    if is_file or part.content_type.lower().startswith("image/"):
        of_file = f" with the file {part.filename[:60]!r}" if part.filename is not None else ""
        raise ValidationFailedError(
            f"the form has a part {shown!r}{of_file}; the part with the image must be called {images.name}",
            details=images.hint,
            field=shown or "name",
        )
    if not part.name:
        raise ValidationFailedError(
            'a part of the form has no name; give each one Content-Disposition: form-data; name="…"', field="name"
        )
    if size_bytes > limit:
        raise ValidationFailedError(
            f"the part {shown!r} has {size_bytes} bytes; a field of a form has at most {limit}, and the part with "
            f"the image must be called {images.name}",
            details=images.hint,
            field=shown,
        )


def text_of(part: FormPart, images: ImagePart) -> str:
    """Return the text of a field. Raises ValidationFailedError when it is not UTF-8."""
    try:
        return part.data.decode()
    except UnicodeDecodeError as error:
        raise ValidationFailedError(
            f"the part {part.name[:60]!r} is not UTF-8 text; the part with the image must be called {images.name}",
            details=images.hint,
            field=part.name[:60],
        ) from error
