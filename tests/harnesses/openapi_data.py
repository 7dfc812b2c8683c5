"""Gives schemathesis the images that a schema cannot describe; its command line loads this file as its hooks."""

from __future__ import annotations

import io

import schemathesis
from hypothesis import strategies
from PIL import Image


def _picture(kind: str) -> bytes:
    out = io.BytesIO()
    Image.effect_noise((320, 272), 60).save(out, kind)
    return out.getvalue()


PICTURES = {kind: _picture(kind) for kind in ("JPEG", "PNG", "TIFF", "WEBP")}
for kind, data in PICTURES.items():
    schemathesis.openapi.media_type(f"image/{kind.lower()}", strategies.just(data))
schemathesis.openapi.media_type("application/octet-stream", strategies.just(PICTURES["JPEG"]))
