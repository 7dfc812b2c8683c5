"""Something that is no S3 server responds at the address of the store: a proxy, a login page, a default page."""

from __future__ import annotations

import hashlib
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from aiohttp import web

from infra.errors import StoreUnavailableError
from infra.storage.frames.open import open_frame_store
from infra.storage.frames.port import FrameStore
from infra.storage.settings import FrameSettings
from ingest.replay.errors import SourceError, SourceUnavailableError
from ingest.replay.settings import ReplayS3Settings
from ingest.replay.sources.s3 import S3Lister
from schemas.events import ImageRef
from tests.servers.http import serving

pytestmark = pytest.mark.integration

DATA = b"a picture"
SHA256 = hashlib.sha256(DATA).hexdigest()
URI = f"s3://bucket/{SHA256[:2]}/{SHA256}.jpg"
IMAGE = ImageRef(uri=URI, sha256=SHA256, size_bytes=len(DATA), media_type="image/jpeg", width=256, height=256)
KEYS = {"access_key": "a", "secret_key": "b"}
PAGES: Mapping[str, tuple[int, str]] = {
    "nothing": (200, ""),
    "html": (200, "<html><body>Please log in<br></body></html>"),
    "xhtml": (200, "<html><body>Please log in</body></html>"),
    "default page": (404, "default backend - 404"),
}


@asynccontextmanager
async def impostor(page: str) -> AsyncIterator[str]:
    status, text = PAGES[page]

    async def respond(_: web.Request) -> web.Response:
        return web.Response(status=status, text=text, content_type="text/html")

    async with serving(respond) as url:
        yield url


async def put(store: FrameStore) -> object:
    return await store.put(DATA, sha256=SHA256, media_type="image/jpeg")


async def get(store: FrameStore) -> object:
    return await store.get(IMAGE)


@pytest.mark.parametrize("page", PAGES)
@pytest.mark.parametrize("call", [put, get], ids=["put", "get"])
async def test_frame_store_is_unavailable_while_a_proxy_responds(
    tmp_path: Path, page: str, call: Callable[[FrameStore], Awaitable[object]]
) -> None:
    async with impostor(page) as url:
        settings = FrameSettings.model_validate(
            {"kind": "s3", "bucket": "bucket", "prefix": "", "endpoint_url": url} | KEYS
        )
        store = open_frame_store(settings, tmp_path)
        with pytest.raises(StoreUnavailableError):
            await call(store)
        await store.close()


@pytest.mark.parametrize("page", ["nothing", "html", "xhtml"])
async def test_known_images_are_not_guessed_while_a_proxy_responds(tmp_path: Path, page: str) -> None:
    async with impostor(page) as url:
        settings = FrameSettings.model_validate({"kind": "s3", "bucket": "bucket", "endpoint_url": url} | KEYS)
        store = open_frame_store(settings, tmp_path)
        with pytest.raises(StoreUnavailableError, match="which every S3 server sends; a proxy"):
            await store.find([SHA256])
        await store.close()


@pytest.mark.parametrize("page", PAGES)
async def test_replay_leaves_no_picture_out_while_a_proxy_responds(page: str) -> None:
    async with impostor(page) as url:
        lister = S3Lister("bucket", "", ReplayS3Settings.model_validate({"endpoint_url": url} | KEYS), timeout_s=5.0)
        with pytest.raises((SourceUnavailableError, SourceError)):
            [listed async for listed in lister.listed(None)]
        with pytest.raises((SourceUnavailableError, SourceError)):
            await lister.read("a.jpg", 1_000)
        await lister.close()
