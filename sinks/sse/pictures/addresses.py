"""Makes and checks the addresses under which clients fetch the pictures of events, and puts them into events.

An address is signed and valid for a time, so that a page can show it without a key (`<img src>`). Who has it has got it
from the stream: with an event that the client may see.
"""

from __future__ import annotations

import hmac
import math
import os
import re
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import orjson

from infra.encryption.box import SecretBox
from schemas.errors import StandgaleError
from schemas.events import EXTENSIONS, ImageRef

IMAGES_PATH = "/api/v1/detections/images"
DEFAULT_LIFETIME_S = 86_400.0
_PURPOSE = "image address"
# All pictures of an hour have one time, so that a browser asks once for a picture that it is sent twice.
_STEP_S = 3_600
_NAME = re.compile(r"([0-9a-f]{64})\.([a-z]{3,4})")
_TIME = re.compile(r"[0-9]{1,12}", re.ASCII)
_KEY_BYTES = 32
_MEDIA_TYPES: Mapping[str, str] = {ending: media_type for media_type, ending in EXTENSIONS.items()}


class PictureAddressError(StandgaleError):
    """An address of a picture has no valid signature, or its time is over."""

    code = "INVALID_ADDRESS"


@dataclass(frozen=True, slots=True)
class PictureName:
    """Names a picture by its content."""

    sha256: str
    media_type: str


class PictureAddresses:
    """Signs addresses with the keys of ``box``, which all servers of the stream must have; None: of this process."""

    def __init__(
        self,
        box: SecretBox | None = None,
        lifetime_s: float = DEFAULT_LIFETIME_S,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._box = box or SecretBox([os.urandom(_KEY_BYTES)])
        self._lifetime_s = lifetime_s
        self._clock = clock

    def of(self, image: ImageRef) -> str:
        """Return the address of ``image``, below the server of the stream."""
        name = f"{image.sha256}.{EXTENSIONS[image.media_type]}"
        until = (math.ceil(self._clock() / _STEP_S)) * _STEP_S + math.ceil(self._lifetime_s)
        return f"{IMAGES_PATH}/{name}?until={until}&signature={self._box.signature(_signed(name, until), _PURPOSE)}"

    def check(self, name: str, query: Mapping[str, str]) -> PictureName:
        """Return what an address names. Raises PictureAddressError."""
        match = _NAME.fullmatch(name)
        until, signature = query.get("until", ""), query.get("signature", "")
        if match is None or match[2] not in _MEDIA_TYPES or _TIME.fullmatch(until) is None:
            raise PictureAddressError("this is no address of a picture; take image.uri of an event as it is")
        expected = self._box.signatures(_signed(name, int(until)), _PURPOSE)
        given = signature.encode("utf-8", "replace")
        matches = [hmac.compare_digest(given, each.encode()) for each in expected]
        if not any(matches):
            raise PictureAddressError(
                "the signature is not valid: the address was changed, or comes from a server with another key; all "
                "servers of the stream need the same encryption.keys (STANDGALE_ENCRYPTION__KEYS)"
            )
        if self._clock() > int(until):
            raise PictureAddressError(
                "the time of this address is over (sse.image_lifetime_s); the event has a new one when it is sent again"
            )
        return PictureName(match[1], _MEDIA_TYPES[match[2]])

    def put_into(self, data: bytes, image: ImageRef) -> bytes:
        """Return ``data``, the JSON of an event with ``image``, with the address in the place of the image's uri."""
        uri = b'"image":{"uri":' + orjson.dumps(image.uri)
        if data.count(uri) == 1:
            return data.replace(uri, b'"image":{"uri":' + orjson.dumps(self.of(image)))
        # Another program has published it, with spaces or its fields in another order.
        document = orjson.loads(data)
        document["image"]["uri"] = self.of(image)
        return orjson.dumps(document)


def _signed(name: str, until: int) -> str:
    return f"{name} {until}"
