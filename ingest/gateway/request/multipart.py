"""Parses a multipart/form-data body: one image part and a limited number of small fields.

All work is a search for the next boundary and for the end of a part's headers, and both are limited in number, so that
the time grows with the size of the body alone, whatever it holds.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from python_multipart.multipart import parse_options_header

from ingest.acceptance.errors import ValidationFailedError
from ingest.acceptance.fields import KNOWN_FIELDS

IMAGE_PART = "image"
MAX_PARTS = 32
# Space for boundaries and part headers in addition to the image and its fields.
OVERHEAD_BYTES = 65_536

MAX_BOUNDARY = 70
_MAX_CONTENT_TYPE = 1_024
MAX_PART_HEADER_BYTES = 4_096
_MAX_PART_HEADERS = 8
HEADERS_END = b"\r\n\r\n"


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


@dataclass(frozen=True, slots=True)
class FormPart:
    """Is one part of a form: its name, the file name from the sender, its Content-Type, and its content."""

    name: str
    filename: str | None
    content_type: str
    data: bytes


def boundary_of(content_type: str) -> bytes:
    """Return the boundary that the Content-Type of a form names. Raises ValidationFailedError."""
    if len(content_type) > _MAX_CONTENT_TYPE:
        raise ValidationFailedError(
            f"the Content-Type has {len(content_type)} characters; at most {_MAX_CONTENT_TYPE} are accepted",
            field="Content-Type",
        )
    boundary = parse_options_header(content_type)[1].get(b"boundary")
    if not boundary:
        raise ValidationFailedError("the Content-Type multipart/form-data has no boundary", field="Content-Type")
    if len(boundary) > MAX_BOUNDARY:
        raise ValidationFailedError(
            f"the boundary has {len(boundary)} bytes; a form's boundary has at most {MAX_BOUNDARY} (RFC 2046)",
            field="Content-Type",
        )
    return boundary


def part_with(head: bytes, data: bytes) -> FormPart:
    """Return the part with the headers ``head`` and the content ``data``."""
    headers = _headers(head)
    options = parse_options_header(headers.get(b"content-disposition", b""))[1]
    filename = options.get(b"filename")
    return FormPart(
        options.get(b"name", b"").decode("utf-8", "replace"),
        filename.decode("utf-8", "replace") if filename else None,
        headers.get(b"content-type", b"").decode("latin-1"),
        data,
    )


def _headers(head: bytes) -> dict[bytes, bytes]:
    lines = head.split(b"\r\n", _MAX_PART_HEADERS) if head else []
    if len(lines) > _MAX_PART_HEADERS:
        raise malformed(f"a part has more than {_MAX_PART_HEADERS} headers")
    headers: dict[bytes, bytes] = {}
    for line in lines:
        name, colon, value = line.partition(b":")
        if not colon or not name:
            raise malformed(f"a part header is {line[:60]!r}; it must be a name, a colon and a value")
        headers[name.lower()] = value.strip(b" \t")
    return headers


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


def malformed(why: str) -> ValidationFailedError:
    """Return the error for a body that is no form."""
    return ValidationFailedError(f"the body is not a multipart form: {why}", field="body")


def cut_off() -> ValidationFailedError:
    """Return the error for a form that ends too early."""
    return ValidationFailedError("the multipart form has no closing boundary; it was cut off", field="body")
