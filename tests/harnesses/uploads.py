"""Forms with pictures for the console, and jobs without their endpoints."""

from __future__ import annotations

from collections.abc import Iterable
from io import BytesIO
from typing import Any

import aiohttp
import numpy as np
from PIL import Image

from tests.servers.console import ConsoleResponse, RunningConsole

UPLOAD = "/api/v1/inference/upload"


def picture(kind: str = "JPEG", width: int = 96, height: int = 80, seed: int = 1) -> bytes:
    """A picture of noise."""
    out = BytesIO()
    Image.fromarray(np.random.default_rng(seed).integers(0, 255, (height, width, 3), dtype=np.uint8)).save(out, kind)
    return out.getvalue()


def form(files: Iterable[tuple[str, bytes]], part: str = "files") -> aiohttp.FormData:
    """A form as curl -F makes it."""
    found = aiohttp.FormData(quote_fields=False)
    for name, data in files:
        found.add_field(part, data, filename=name)
    return found


async def upload(console: RunningConsole, *files: tuple[str, bytes], **options: Any) -> ConsoleResponse:
    """Send ``files`` as one upload."""
    return await console.post(UPLOAD, data=form(files), **options)
