"""Reads numbers as cameras and programs write them in text."""

from __future__ import annotations

import math
import re

_DIGITS = r"(?:[0-9]{1,15}(?:[.,][0-9]{0,40})?|[.,][0-9]{1,40})"
_NUMBER = re.compile(rf"([+-]?|\+-)({_DIGITS})([eE][+-]?[0-9]{{1,3}})? ?(?:m|deg|°)?", re.ASCII)
_RATIO = re.compile(r"([+-]?[0-9]{1,15})/([0-9]{1,15})", re.ASCII)
# "1,234" is one and a quarter in some countries, and a thousand in others.
_AMBIGUOUS = re.compile(r"[+-]{0,2}[0-9]{1,3},[0-9]{3}", re.ASCII)
_MAX_LENGTH = 80


def parse_number(text: str) -> float | None:
    """Return the finite number that ``text`` is, or None.

    Accepts a sign (DJI also writes `+-`), a comma as the decimal point, an exponent, a ratio (`-8759/100`), and a unit
    of metres or degrees.
    """
    text = text.strip()
    if len(text) > _MAX_LENGTH or _AMBIGUOUS.fullmatch(text):
        return None
    ratio = _RATIO.fullmatch(text)
    if ratio is not None:
        return int(ratio[1]) / int(ratio[2]) if int(ratio[2]) else None
    match = _NUMBER.fullmatch(text)
    if match is None:
        return None
    value = float(match[2].replace(",", ".") + (match[3] or ""))
    if not math.isfinite(value):
        return None
    return -value if "-" in match[1] else value
