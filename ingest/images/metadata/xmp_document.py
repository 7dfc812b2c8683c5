"""Reads properties from the text of XMP packets: by an XML parser, else one by one."""

from __future__ import annotations

from dataclasses import dataclass, field
from xml.parsers.expat import ErrorString, ExpatError, ParserCreate, XMLParserType

from ingest.images.metadata.numbers import parse_number
from ingest.images.metadata.warnings import Warnings
from ingest.images.metadata.xmp_names import RDF, STRUCTURES, WANTED, usual_prefix
from ingest.images.metadata.xmp_salvage import salvage

MAX_DEPTH = 100
# What costs the XML parser time, and how much of it a packet may have; others are read value by value.
_COUNTED = {b"<": 1_000, b"=": 1_000, b"&": 1_000, b"\n": 4_000, b"\r": 4_000}
_MAX_PARSED_BYTES = 1 << 17
_MAX_DOCUMENTS = 8
_MAX_INSTRUCTIONS = 64
_MAX_VALUE = 256
_MAX_NAMES = 200
_IGNORED = "?"
_RDF_VALUE = "22-rdf-syntax-ns# value"


class _StopError(Exception):
    """Ends the parser: the document is complete, or must not be read further."""


@dataclass(slots=True)
class XmpValues:
    """Collects properties by name; of several values of one name the first counts."""

    found: dict[str, str] = field(default_factory=dict)
    contradicted: set[str] = field(default_factory=set)

    def add(self, name: str, value: str) -> None:
        """Add the value of a wanted property; blanks are no value."""
        value = value.strip()
        known = self.found.setdefault(name, value) if value else value
        if known != value and name not in self.contradicted:
            number = parse_number(known)
            if number is None or number != parse_number(value):
                self.contradicted.add(name)


def read_documents(text: str, values: XmpValues, warnings: Warnings) -> None:
    """Add the properties of all documents in ``text`` to ``values``; warn about what is not well-formed."""
    rest = text
    for _ in range(_MAX_DOCUMENTS):
        start = _next_root(rest)
        if start < 0:
            return
        reader = _Reader(values)
        reason, length = reader.read(rest[start:])
        if reason is not None:
            names = salvage(rest[start:], values.add)
            found = f"read one by one: {', '.join(sorted(names))[:_MAX_NAMES]}" if names else "no value was found in it"
            warnings.add(f"an XMP packet could not be read by an XML parser ({reason}); {found}")
            return
        rest = rest[start + length :]


def _next_root(text: str) -> int:
    """Return where the next element begins, after processing instructions; -1 when there is none."""
    start = text.find("<")
    for _ in range(_MAX_INSTRUCTIONS):
        if not text.startswith("<?", start):
            return start
        start = text.find("<", start + 2)
    return -1


class _Reader:
    """Reads one document: an event for each start, end and text, so that no tree is kept."""

    def __init__(self, values: XmpValues) -> None:
        self._values = values
        self._paths: list[str] = []
        self._text: list[str] = []
        self._length = 0
        self._reason: str | None = None
        self._complete = False

    def read(self, text: str) -> tuple[str | None, int]:
        """Return why the document cannot be read (None: it was read), and where it ends in ``text``."""
        data = text.encode("utf-8", "replace")
        if len(data) > _MAX_PARSED_BYTES:
            return f"more than {_MAX_PARSED_BYTES} bytes", len(text)
        for mark, most in _COUNTED.items():
            if data.count(mark) > most:
                return f"more than {most} of {mark.decode()!r}", len(text)
        parser = ParserCreate("utf-8", " ")
        parser.buffer_text = True
        parser.StartElementHandler = self._start
        parser.EndElementHandler = self._end
        parser.CharacterDataHandler = self._characters
        parser.StartDoctypeDeclHandler = self._refuse_doctype
        try:
            parser.Parse(data, True)
        except _StopError:
            pass
        except ExpatError as error:
            self._reason = f"{ErrorString(error.code)}, line {error.lineno}"
        if not self._complete:
            return self._reason or "it is empty", len(text)
        return None, self._after(parser, data)

    def _after(self, parser: XMLParserType, data: bytes) -> int:
        """Return the position in the text behind the root's end."""
        end = data.find(b">", parser.CurrentByteIndex)
        return len(data[: end + 1].decode("utf-8", "replace"))

    def _start(self, name: str, attributes: dict[str, str]) -> None:
        if len(self._paths) >= MAX_DEPTH:
            self._reason = f"nested deeper than {MAX_DEPTH}"
            raise _StopError
        parent = self._paths[-1] if self._paths else ""
        # A root may have any name.
        path = self._path_of(parent, name) if self._paths else ""
        for attribute, value in attributes.items():
            inner = path if attribute.endswith(_RDF_VALUE) else self._path_of(path, attribute)
            if inner in WANTED and (inner != path or attribute.endswith(_RDF_VALUE)):
                self._values.add(inner, value[:_MAX_VALUE])
        if self._text and path == parent:
            # The second item of a list: only the first is a value.
            path = _IGNORED
        elif path != parent:
            self._text.clear()
            self._length = 0
        self._paths.append(path)

    def _path_of(self, parent: str, name: str) -> str:
        """Return the path of an element or attribute: its parent's for RDF itself, ``?`` for what is not read."""
        uri, _, local = name.rpartition(" ")
        prefix = usual_prefix(uri) if uri else None
        if prefix == RDF:
            return parent
        if prefix is None or parent == _IGNORED:
            return _IGNORED
        path = f"{parent}/{local}" if parent else f"{prefix}:{local}"
        return path if path in WANTED or path in STRUCTURES else _IGNORED

    def _characters(self, text: str) -> None:
        if self._paths[-1] in WANTED and self._length < _MAX_VALUE and (self._text or not text.isspace()):
            self._text.append(text[:_MAX_VALUE])
            self._length += len(text)

    def _end(self, _: str) -> None:
        path = self._paths.pop()
        parent = self._paths[-1] if self._paths else ""
        if path in WANTED and path != parent and self._text:
            self._values.add(path, "".join(self._text)[:_MAX_VALUE])
            self._text.clear()
        if not self._paths:
            self._complete = True
            raise _StopError

    def _refuse_doctype(self, *_: object) -> None:
        self._reason = "it declares a document type, which XMP does not have"
        raise _StopError
