"""Reads properties from XMP that is not well-formed: finds their names in the text, and the value behind each."""

from __future__ import annotations

import re
from collections.abc import Callable

from ingest.images.metadata.xmp_names import PREFIXES, WANTED, usual_prefix

_MAX_HITS = 8
_MAX_NAMESPACES = 128
_WINDOW = 600
_MAX_COMMENTS = 256

_LOCAL_NAMES = sorted({name.partition(":")[2] for name in WANTED if "/" not in name})
_PREFIX = re.compile(r"[A-Za-z_][\w.-]{0,63}$")
_ATTRIBUTE = re.compile(r"""\s{0,16}=\s{0,16}(?:"([^"<>]{0,256})"|'([^'<>]{0,256})')""")
_CONTENT = re.compile(r"(?:\s[^<>]{0,256})?>([^<>]{0,256})</")
_DECLARATION = re.compile(r"""xmlns:([A-Za-z_][\w.-]{0,63})\s{0,16}=\s{0,16}["']([^"'<>]{0,256})["']""")


def salvage(text: str, add: Callable[[str, str], None]) -> set[str]:
    """Call ``add`` with name and value of each wanted property in ``text``, and return the names.

    Time grows with the length of ``text`` only.
    """
    names: set[str] = set()
    text = _without_comments(text)
    namespaces = _namespaces(text)
    for position, local in _hits(text):
        before = _PREFIX.search(text[max(0, position - 64) : position])
        if before is None:
            continue
        prefix = namespaces.get(before[0], before[0] if before[0] in PREFIXES else None)
        name = f"{prefix}:{local}"
        if prefix is None or name not in WANTED:
            continue
        behind = position + 1 + len(local)
        window = text[behind : behind + _WINDOW]
        opening = text[position - len(before[0]) - 1 : position - len(before[0])]
        match = _CONTENT.match(window) if opening == "<" else _ATTRIBUTE.match(window)
        if match is not None:
            add(name, next((value for value in match.groups() if value is not None), ""))
            names.add(name)
    return names


def _hits(text: str) -> list[tuple[int, str]]:
    """Return position of the colon and local name of each candidate, at most _MAX_HITS of a name."""
    found: list[tuple[int, str]] = []
    for local in _LOCAL_NAMES:
        position = -1
        for _ in range(_MAX_HITS):
            position = text.find(f":{local}", position + 1)
            if position < 0:
                break
            found.append((position, local))
    return found


def _namespaces(text: str) -> dict[str, str]:
    """Return the usual prefix of each prefix that ``text`` declares for a namespace that is read."""
    found: dict[str, str] = {}
    position = text.find("xmlns:")
    for _ in range(_MAX_NAMESPACES):
        if position < 0:
            break
        match = _DECLARATION.match(text, position)
        usual = usual_prefix(match[2]) if match else None
        if match is not None and usual is not None:
            found.setdefault(match[1], usual)
        position = text.find("xmlns:", position + 6)
    return found


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
