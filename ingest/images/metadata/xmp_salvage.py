"""Reads properties from XMP that is not well-formed: finds their names in the text, and the value behind each."""

from __future__ import annotations

import re
from collections.abc import Callable

from ingest.images.metadata.xmp_names import PREFIXES, WANTED, usual_prefix

# Each name is behind a colon. A packet of a drone has some hundreds.
MAX_COLONS = 1_000
_MAX_CANDIDATES = 256
_MAX_COMMENTS = 256
_MAX_BEFORE, _MAX_BEHIND = 64, 600

_LOCAL_NAMES = frozenset(name.partition(":")[2] for name in WANTED if "/" not in name)
_LOCAL = re.compile(r"[A-Za-z_][\w.-]{0,63}")
_PREFIX = re.compile(r"[A-Za-z_][\w.-]{0,63}$")
_ATTRIBUTE = re.compile(r"""\s{0,16}=\s{0,16}(?:"([^"<>]{0,256})"|'([^'<>]{0,256})')""")
_CONTENT = re.compile(r"(?:\s[^<>]{0,256})?>([^<>]{0,256})</")
_DECLARED = "xmlns"


def salvage(text: str, add: Callable[[str, str], None]) -> set[str]:
    """Call ``add`` with name and value of each wanted property in ``text``, and return the names.

    Time grows with the length of ``text`` only; names behind the first MAX_COLONS colons are not found.
    """
    text = _without_comments(text)
    namespaces: dict[str, str] = {}
    candidates: list[tuple[int, str]] = []
    position = -1
    before, *pieces = text.split(":", MAX_COLONS)
    for piece in pieces:
        position += len(before) + 1
        match = _LOCAL.match(piece)
        if match is not None and match[0] in _LOCAL_NAMES:
            candidates.append((position, match[0]))
        elif match is not None and before.endswith(_DECLARED):
            value = _ATTRIBUTE.match(text, position + 1 + match.end())
            usual = usual_prefix(value[1] or value[2] or "") if value else None
            if usual is not None:
                namespaces.setdefault(match[0], usual)
        before = piece
    names: set[str] = set()
    for position, local in candidates[:_MAX_CANDIDATES]:
        found = _property(text, position, local, namespaces)
        if found is not None:
            add(*found)
            names.add(found[0])
    return names


def _property(text: str, position: int, local: str, namespaces: dict[str, str]) -> tuple[str, str] | None:
    """Return name and value of the property whose local name is behind the colon at ``position``."""
    before = _PREFIX.search(text[max(0, position - _MAX_BEFORE) : position])
    if before is None:
        return None
    prefix = namespaces.get(before[0], before[0] if before[0] in PREFIXES else "")
    name = f"{prefix}:{local}"
    if name not in WANTED:
        return None
    behind = position + 1 + len(local)
    window = text[behind : behind + _MAX_BEHIND]
    start = position - len(before[0])
    match = _CONTENT.match(window) if text[start - 1 : start] == "<" else _ATTRIBUTE.match(window)
    return None if match is None else (name, next((value for value in match.groups() if value is not None), ""))


def _without_comments(text: str) -> str:
    parts: list[str] = []
    position = 0
    for _ in range(_MAX_COMMENTS):
        start = text.find("<!--", position)
        if start < 0:
            return "".join((*parts, text[position:]))
        parts.append(text[position:start])
        end = text.find("-->", start + 4)
        if end < 0:
            break
        position = end + 3
    return "".join(parts)
