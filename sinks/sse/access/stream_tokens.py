"""Makes and reads the tokens that a page puts into the address of the stream, because an EventSource sends no headers.

A token is made with an API key, ends after some minutes, and may name fewer devices than the key. It is stored
nowhere: what it says is encrypted in it, so that every server with the same keys can read it.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import orjson

from infra.encryption.box import SecretBox, SecretUnreadableError

PREFIX = "sgs_"
_PURPOSE = "token of the live stream"


@dataclass(frozen=True, slots=True)
class StreamToken:
    """Is what a token says."""

    key_id: str
    """The public id of the key that it was made with; it is valid only while the key is"""
    devices: Sequence[str] | None
    """Patterns of devices; None: all that the key may see"""
    until: int
    """When it ends, seconds since the epoch"""


class StreamTokens:
    """Makes and reads tokens with the keys of ``box``."""

    def __init__(self, box: SecretBox, lifetime_s: float, clock: Callable[[], float] = time.time) -> None:
        self._box = box
        self._lifetime_s = lifetime_s
        self._clock = clock

    def make(self, key_id: str, devices: Sequence[str] | None) -> tuple[str, StreamToken]:
        """Return a new token and what it says."""
        token = StreamToken(key_id, devices, math.ceil(self._clock() + self._lifetime_s))
        text = orjson.dumps([token.key_id, token.devices, token.until]).decode()
        return PREFIX + self._box.encrypt(text, _PURPOSE).decode("ascii").rstrip("="), token

    def read(self, text: str) -> StreamToken | None:
        """Return what a token says; None for one that is changed, of another server, or over."""
        data = text.removeprefix(PREFIX)
        try:
            found = self._box.decrypt((data + "=" * (-len(data) % 4)).encode("ascii", "replace"), _PURPOSE)
        except SecretUnreadableError:
            return None
        token = StreamToken(*orjson.loads(found))
        return token if self._clock() < token.until else None
