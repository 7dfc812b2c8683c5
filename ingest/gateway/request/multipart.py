"""Parses a multipart/form-data body: one image part and a limited number of small fields.

All work is a search for the next boundary and for the end of a part's headers, and both are limited in number, so that
the time grows with the size of the body alone, whatever it holds.
"""

from __future__ import annotations

from collections.abc import Iterator
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


ONE_IMAGE = ImagePart(
    IMAGE_PART,
    f'Send exactly one part with the image, as "curl -F {IMAGE_PART}=@picture.jpg" does; '
    f"the other parts are fields: {', '.join(KNOWN_FIELDS)}.",
)


@dataclass(slots=True)
class Form:
    """Holds a form: the image's bytes, its file name from the sender, and the other fields in order."""

    image: bytes
    filename: str | None
    fields: list[tuple[str, str]]


@dataclass(frozen=True, slots=True)
class FormPart:
    """Is one part of a form: its name, the file name from the sender, its Content-Type, and its content."""

    name: str
    filename: str | None
    content_type: str
    data: bytes


def parse_form(body: bytes, content_type: str, max_metadata_bytes: int) -> Form:
    """Parse ``body``. Raises ValidationFailedError unless it is a complete form with exactly one image.

    A field may be as large as the metadata may be, ``max_metadata_bytes``, or a file name in the part headers.
    """
    limit = max(max_metadata_bytes, OVERHEAD_BYTES)
    images: list[FormPart] = []
    fields: list[tuple[str, str]] = []
    for part in _parts(body, boundary_of(content_type)):
        if part.name == IMAGE_PART:
            images.append(part)
        else:
            require_field(part, limit)
            fields.append((part.name, text_of(part)))
    return Form(*_image(images), fields)


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


def _parts(body: bytes, boundary: bytes) -> Iterator[FormPart]:
    """Split ``body`` at its boundaries; text before the first and after the last one is passed over."""
    delimiter = b"\r\n--" + boundary
    if body.startswith(delimiter[2:]):
        at = len(delimiter) - 2
    elif (found := body.find(delimiter)) >= 0:
        at = found + len(delimiter)
    elif not body:
        raise cut_off()
    else:
        raise malformed(f"it does not have its boundary {boundary.decode('latin-1')!r}")
    for number in range(MAX_PARTS + 1):
        if body.startswith(b"--", at):
            return
        line_end = body.find(b"\r\n", at, at + MAX_BOUNDARY)
        if line_end < 0 or body[at:line_end].strip(b" \t"):
            if len(body) - at < 2:
                raise cut_off()
            raise malformed("a line begins with the boundary, but is longer")
        if number == MAX_PARTS:
            break
        # The line break before the delimiter belongs to it, also where a part has no content at all.
        end = body.find(delimiter, line_end)
        if end < 0:
            raise cut_off()
        yield _part(body, line_end + 2, end)
        at = end + len(delimiter)
    raise malformed(f"it has more than {MAX_PARTS} parts")


def _part(body: bytes, start: int, end: int) -> FormPart:
    """Read the part at ``start``: headers, an empty line, its content up to ``end``."""
    if body.startswith(b"\r\n", start):
        head, content = b"", start + 2
    else:
        head_end = body.find(HEADERS_END, start, min(end, start + MAX_PART_HEADER_BYTES) + len(HEADERS_END))
        if head_end < 0:
            raise malformed(f"a part has no empty line behind headers of at most {MAX_PART_HEADER_BYTES} bytes")
        head, content = body[start:head_end], head_end + len(HEADERS_END)
    return part_with(head, body[content : max(content, end)])


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


def require_field(part: FormPart, limit: int, images: ImagePart = ONE_IMAGE) -> None:
    """Raise ValidationFailedError for a part that is a picture under another name, has no name, or is too large."""
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
    if len(part.data) > limit:
        raise ValidationFailedError(
            f"the part {shown!r} has {len(part.data)} bytes; a field of a form has at most {limit}, and the part with "
            f"the image must be called {images.name}",
            details=images.hint,
            field=shown,
        )


def text_of(part: FormPart, images: ImagePart = ONE_IMAGE) -> str:
    """Return the text of a field. Raises ValidationFailedError when it is not UTF-8."""
    try:
        return part.data.decode()
    except UnicodeDecodeError as error:
        raise ValidationFailedError(
            f"the part {part.name[:60]!r} is not UTF-8 text; the part with the image must be called {images.name}",
            details=images.hint,
            field=part.name[:60],
        ) from error


def _image(images: list[FormPart]) -> tuple[bytes, str | None]:
    if len(images) != 1:
        raise ValidationFailedError(
            f"the form has {len(images)} parts called {IMAGE_PART}; it must have exactly one",
            details=ONE_IMAGE.hint,
            field=IMAGE_PART,
        )
    image = images[0]
    if not image.data:
        raise ValidationFailedError(
            f"the part {IMAGE_PART} is empty; it must have the bytes of the picture",
            details="With curl write @ before the file's path: curl -F image=@picture.jpg.",
            field=IMAGE_PART,
        )
    return image.data, image.filename


def malformed(why: str) -> ValidationFailedError:
    """Return the error for a body that is no form."""
    return ValidationFailedError(f"the body is not a multipart form: {why}", field="body")


def cut_off() -> ValidationFailedError:
    """Return the error for a form that ends too early."""
    return ValidationFailedError("the multipart form has no closing boundary; it was cut off", field="body")
