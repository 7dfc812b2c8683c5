"""The S3 frame store with wrong settings, and the objects that it leaves in the bucket."""

from __future__ import annotations

import asyncio
import hashlib
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from infra.deploy.s3 import S3Server
from infra.errors import StoreUnavailableError
from infra.storage.frames.open import open_frame_store

pytestmark = pytest.mark.integration


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"bucket": "no-such-bucket"}, "STANDGALE_FRAMES__BUCKET"),
        ({"access_key": "somebody"}, "STANDGALE_FRAMES__ACCESS_KEY"),
        ({"secret_key": "hush-hush-hush"}, "STANDGALE_FRAMES__SECRET_KEY"),
    ],
)
async def test_s3_frame_store_names_wrong_setting_without_secret(
    s3_server: S3Server, tmp_path: Path, change: dict[str, str], words: str
) -> None:
    store = open_frame_store(s3_server.settings(**change), tmp_path)
    try:
        with pytest.raises(StoreUnavailableError, match=words) as caught:
            await store.check()
        assert "hush" not in str(caught.value)
        assert s3_server.secret_key not in str(caught.value)
    finally:
        await store.close()


async def test_s3_frame_store_gives_up_silent_server_in_time(s3_server: S3Server, tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        endpoint = f"http://127.0.0.1:{silent.getsockname()[1]}"
        store = open_frame_store(s3_server.settings(endpoint_url=endpoint, timeout_s=0.3), tmp_path)
        with pytest.raises(StoreUnavailableError, match=r"within 0\.3 s \(STANDGALE_FRAMES__TIMEOUT_S\)"):
            await store.put(b"x", sha256=hashlib.sha256(b"x").hexdigest(), media_type="image/jpeg")
        await store.close()


async def test_s3_frame_store_puts_objects_by_hash_below_prefix(s3_server: S3Server, tmp_path: Path) -> None:
    sha256 = hashlib.sha256(b"picture").hexdigest()
    for prefix, folder in (("a/b", "a/b/"), ("", "")):
        store = open_frame_store(s3_server.settings(prefix=prefix), tmp_path)
        uri = await store.put(b"picture", sha256=sha256, media_type="image/webp")
        place = f"{s3_server.bucket}/{folder}{sha256[:2]}/{sha256}.webp"
        assert uri == f"s3://{place}"
        assert (s3_server.data_dir / place).read_bytes() == b"picture"
        await store.delete(uri)
        await store.close()


@asynccontextmanager
async def damaging_way(server: S3Server, wanted: bytes, damaged: bytes) -> AsyncIterator[str]:
    """A way to the server on which the bytes ``wanted`` of an upload arrive as ``damaged``."""
    port = int(server.endpoint_url.rpartition(":")[2])

    async def carry(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while data := await reader.read(1 << 20):
            writer.write(data.replace(wanted, damaged))
            await writer.drain()
        writer.close()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        there, back = await asyncio.open_connection("127.0.0.1", port)
        await asyncio.gather(carry(reader, back), carry(there, writer), return_exceptions=True)

    proxy = await asyncio.start_server(serve, "127.0.0.1", 0)
    async with proxy:
        yield f"http://127.0.0.1:{proxy.sockets[0].getsockname()[1]}"


async def test_s3_put_damaged_in_transfer_is_refused_and_not_stored(s3_server: S3Server, tmp_path: Path) -> None:
    data = b"a picture of a pylon"
    sha256 = hashlib.sha256(data).hexdigest()
    async with damaging_way(s3_server, b"pylon", b"pilon") as endpoint:
        # The signature is for a different host, so the server gets the name of that host.
        store = open_frame_store(s3_server.settings(endpoint_url=endpoint, prefix="damaged"), tmp_path)
        with pytest.raises(StoreUnavailableError, match="damaged in transfer"):
            await store.put(data, sha256=sha256, media_type="image/png")
        assert [found async for found in store.objects()] == []
        await store.close()
    store = open_frame_store(s3_server.settings(prefix="damaged"), tmp_path)
    await store.put(data, sha256=sha256, media_type="image/png")
    assert len([found async for found in store.objects()]) == 1
    await store.close()
