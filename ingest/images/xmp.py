"""Reads the drone maker's values from an XMP packet, with a limit of its size and without XML entities."""

from __future__ import annotations

import re
from collections.abc import Mapping
from xml.etree.ElementTree import ParseError

from defusedxml import DefusedXmlException
from defusedxml.ElementTree import fromstring

from ingest.images.formats.header import Span

MAX_XMP_BYTES = 1 << 16

_NAMESPACE = "http://www.dji.com/drone-dji/1.0/"
_DOCUMENT = re.compile(rb"<x:xmpmeta\b.*</x:xmpmeta>|<rdf:RDF\b.*</rdf:RDF>", re.DOTALL)


def read_xmp(data: bytes, span: Span | None) -> Mapping[str, str]:
    """Return the values of DJI's namespace by name, from attributes and elements; empty when nothing can be read."""
    if span is None:
        return {}
    packet = data[span.start : min(span.end, span.start + MAX_XMP_BYTES)]
    if _NAMESPACE.encode() not in packet:
        return {}
    match = _DOCUMENT.search(packet)
    if match is None:
        return {}
    try:
        root = fromstring(match[0], forbid_dtd=True)
    except (ParseError, DefusedXmlException, ValueError, LookupError):
        return {}
    mark = f"{{{_NAMESPACE}}}"
    values: dict[str, str] = {}
    for element in root.iter():
        if isinstance(element.tag, str) and element.tag.startswith(mark):
            values.setdefault(element.tag.removeprefix(mark), (element.text or "").strip())
        for name, value in element.items():
            if name.startswith(mark):
                values.setdefault(name.removeprefix(mark), value.strip())
    return values
