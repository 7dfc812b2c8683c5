"""Makes the ids that clients see; they are random, so that knowing one says nothing about another."""

from __future__ import annotations

import re
import secrets
from typing import Literal

_LETTERS = "abcdefghijklmnopqrstuvwxyz0123456789"
_LENGTH = 16
_COUNT = len(_LETTERS) ** _LENGTH
Kind = Literal["upl", "img", "job", "whk"]


def new_id(kind: Kind) -> str:
    """Return a new id such as ``upl_a1b2c3d4e5f6g7h8``: 82 random bits."""
    number, letters = secrets.randbelow(_COUNT), ""
    for _ in range(_LENGTH):
        number, place = divmod(number, len(_LETTERS))
        letters += _LETTERS[place]
    return f"{kind}_{letters}"


def is_id(text: str, kind: Kind) -> bool:
    """Whether ``text`` has the form of an id of ``kind``; what has not is not looked up."""
    return re.fullmatch(rf"{kind}_[a-z0-9]{{4,32}}", text) is not None
