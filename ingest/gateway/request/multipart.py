"""Parses a multipart/form-data body: one image part and a limited number of small fields."""

from __future__ import annotations

from dataclasses import dataclass, field

from python_multipart import MultipartParser
from python_multipart.exceptions import FormParserError
from python_multipart.multipart import parse_options_header

from ingest.gateway.errors import ValidationFailedError

IMAGE_PART = "image"
MAX_PARTS = 32
# Space for boundaries and part headers in addition to the image and its fields.
OVERHEAD_BYTES = 65_536


@dataclass(slots=True)
class Form:
    """Holds a form: the image's bytes, its file name from the sender, and the other fields in order."""

    image: bytes
    filename: str | None
    fields: list[tuple[str, str]]


@dataclass(slots=True)
class _FormPart:
    header_name: bytearray = field(default_factory=bytearray)
    header_value: bytearray = field(default_factory=bytearray)
    disposition: bytes = b""
    slices: list[memoryview] = field(default_factory=list)

    def data(self) -> bytes:
        """Return the content of the part, copied once."""
        return b"".join(self.slices)


class _PartCollector:
    """Collects whole parts from the parser's callbacks."""

    def __init__(self) -> None:
        self.parts: list[_FormPart] = []
        self.complete = False

    def begin(self) -> None:
        if len(self.parts) >= MAX_PARTS:
            raise FormParserError(f"more than {MAX_PARTS} parts")
        self.parts.append(_FormPart())

    def header_name(self, data: bytes, start: int, end: int) -> None:
        self.parts[-1].header_name += data[start:end]

    def header_value(self, data: bytes, start: int, end: int) -> None:
        self.parts[-1].header_value += data[start:end]

    def header_end(self) -> None:
        part = self.parts[-1]
        if bytes(part.header_name).lower() == b"content-disposition":
            part.disposition = bytes(part.header_value)
        part.header_name.clear()
        part.header_value.clear()

    def data(self, data: bytes, start: int, end: int) -> None:
        self.parts[-1].slices.append(memoryview(data)[start:end])

    def end(self) -> None:
        self.complete = True


def parse_form(body: bytes, content_type: str) -> Form:
    """Parse ``body``. Raises ValidationFailedError unless it is a complete form with exactly one image."""
    boundary = parse_options_header(content_type)[1].get(b"boundary")
    if not boundary:
        raise ValidationFailedError("the Content-Type multipart/form-data has no boundary", field="Content-Type")
    collector = _PartCollector()
    try:
        parser = MultipartParser(
            boundary,
            {
                "on_part_begin": collector.begin,
                "on_header_field": collector.header_name,
                "on_header_value": collector.header_value,
                "on_header_end": collector.header_end,
                "on_part_data": collector.data,
                "on_end": collector.end,
            },
        )
        parser.write(body)
    except FormParserError as error:
        raise ValidationFailedError(f"the body is not a multipart form: {error}", field="body") from error
    if not collector.complete:
        raise ValidationFailedError("the multipart form has no closing boundary; it was cut off", field="body")
    return _form(collector.parts)


def _form(parts: list[_FormPart]) -> Form:
    images: list[tuple[bytes, str | None]] = []
    fields: list[tuple[str, str]] = []
    for part in parts:
        options = parse_options_header(part.disposition)[1]
        name = options.get(b"name", b"").decode("utf-8", "replace")
        filename = options.get(b"filename")
        if name == IMAGE_PART:
            images.append((part.data(), filename.decode("utf-8", "replace") if filename else None))
        else:
            fields.append((name, _text(name, part.data())))
    if len(images) != 1:
        raise ValidationFailedError(
            f"the form has {len(images)} parts called image; it must have exactly one", field=IMAGE_PART
        )
    return Form(*images[0], fields)


def _text(name: str, data: bytes) -> str:
    try:
        return data.decode()
    except UnicodeDecodeError as error:
        raise ValidationFailedError(f"{name}: not UTF-8 text", field=name) from error
