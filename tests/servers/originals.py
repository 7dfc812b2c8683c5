"""Uploads originals to a running gateway and announces them."""

from __future__ import annotations

import io
import json
from hashlib import sha256
from pathlib import Path
from typing import Any
from urllib.parse import urljoin

import numpy as np
from PIL import Image

from infra.storage.frames.open import open_frame_store
from infra.storage.originals.open import open_uploads
from infra.storage.originals.port import Upload
from infra.storage.settings import FrameSettings
from ingest.settings import GatewaySettings
from schemas.possession import proof_of
from tests.servers.gateway import TOKEN, WHEN, Gateway, GatewayResponse, running

ORIGINALS = "/api/v1/originals"
SETTINGS = GatewaySettings(
    max_image_bytes=100_000,
    max_side_px=1_000,
    max_original_bytes=4_000_000,
    max_original_side_px=2_000,
    max_pending_originals=3,
    body_timeout_s=10.0,
    answer_timeout_s=0.3,
)


def tiff(width: int = 1_200, height: int = 900, seed: int = 1) -> bytes:
    out = io.BytesIO()
    pixels = np.random.default_rng(seed).integers(0, 255, (height, width, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(out, "TIFF")
    return out.getvalue()


ORIGINAL = tiff()
DIGEST = sha256(ORIGINAL).hexdigest()


def gateway_on(frames: FrameSettings, folder: Path, settings: GatewaySettings = SETTINGS) -> Any:
    uploads = open_uploads(frames, folder, max_bytes=settings.max_original_bytes)
    return running(folder, settings, originals=uploads, frames=open_frame_store(frames, folder))


async def ask(gateway: Gateway, image: bytes = ORIGINAL, token: str = TOKEN, **changes: object) -> GatewayResponse:
    body = {"sha256": sha256(image).hexdigest(), "size_bytes": len(image), "media_type": "image/tiff"} | changes
    return await gateway.send(json.dumps(body).encode(), path=ORIGINALS, params={}, token=token)


async def address(gateway: Gateway, image: bytes = ORIGINAL, **changes: object) -> dict[str, Any]:
    response = await ask(gateway, image, **changes)
    assert (response.status, response.json["status"]) == (200, "upload"), response.body
    upload: dict[str, Any] = response.json["upload"]
    return upload | {"url": urljoin(gateway.url + ORIGINALS, upload["url"])}


async def put(
    gateway: Gateway, upload: dict[str, Any], data: bytes = ORIGINAL, headers: dict[str, str] | None = None
) -> GatewayResponse:
    given = {name: text for name, text in upload["headers"].items() if name != "Content-Length"} | (headers or {})
    async with gateway.client.put(upload["url"], data=data, headers=given) as response:
        return GatewayResponse(response.status, dict(response.headers), await response.read())


async def pending(gateway: Gateway, lasts_s: float = 60.0) -> int:
    assert gateway.originals is not None
    return await gateway.originals.pending(Upload("drone-1", "0" * 64, 1, "image/tiff"), 9, lasts_s)


async def announce(
    gateway: Gateway, image: bytes = ORIGINAL, token: str = TOKEN, *, proof: bool = False
) -> GatewayResponse:
    params = {"captured_at": WHEN, "sha256": sha256(image).hexdigest(), "flight": "north"}
    return await gateway.send(b"", params=params | ({"proof": proof_of(image)} if proof else {}), token=token)
