"""Parses the boundary of a multipart/form-data body and the headers of its parts.

Headers are limited in size and number, so that the time grows with the size of the body alone, whatever it holds.
"""

from __future__ import annotations

from dataclasses import dataclass

from python_multipart.multipart import parse_options_header

from infra.http_api.errors.api_errors import ValidationFailedError

OVERHEAD_BYTES = 65_536
"""Space for boundaries and part headers in addition to the files of a form and its fields."""

MAX_BOUNDARY = 70
_MAX_CONTENT_TYPE = 1_024
MAX_PART_HEADER_BYTES = 4_096
_MAX_PART_HEADERS = 8
HEADERS_END = b"\r\n\r\n"


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


def malformed(why: str) -> ValidationFailedError:
    """Return the error for a body that is no form."""
    return ValidationFailedError(f"the body is not a multipart form: {why}", field="body")


def cut_off() -> ValidationFailedError:
    """Return the error for a form that ends too early."""
    return ValidationFailedError("the multipart form has no closing boundary; it was cut off", field="body")
