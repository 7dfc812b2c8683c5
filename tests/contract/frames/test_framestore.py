"""The contract of every frame store, over a folder and over a real S3 server."""

from __future__ import annotations

import asyncio
import hashlib
import json
import os
import signal
import subprocess
import sys
import textwrap
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from urllib.parse import unquote, urlsplit
from uuid import uuid4

import pytest
from pydantic import SecretStr

from infra.deploy.s3 import S3Server
from infra.errors import ImageCorruptError, ImageMissingError, StoreUnavailableError
from infra.storage.frames.open import open_frame_store
from infra.storage.frames.port import FrameStore
from infra.storage.settings import FrameSettings
from schemas.events import ImageRef


@dataclass
class World:
    """One store under test, and the means to do to it what the world does."""

    store: FrameStore
    settings: FrameSettings
    path_of: Callable[[str], Path]
    take_away: Callable[[], None]
    bring_back: Callable[[], None]


@pytest.fixture(scope="module")
def s3_for_contract(tmp_path_factory: pytest.TempPathFactory) -> Iterator[S3Server]:
    with S3Server(tmp_path_factory.mktemp("s3") / "buckets") as server:
        yield server


@pytest.fixture(params=["folder", pytest.param("s3", marks=pytest.mark.integration)])
async def world(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[World]:
    world = _folder_world(tmp_path) if request.param == "folder" else _s3_world(request, tmp_path)
    yield world
    await world.store.close()


def _folder_world(tmp_path: Path) -> World:
    root, away = tmp_path / "frames and more", tmp_path / "away"
    settings = FrameSettings(folder=root)
    return World(
        open_frame_store(settings, tmp_path),
        settings,
        lambda uri: Path(unquote(urlsplit(uri).path)),
        lambda: _move(root, away),
        lambda: _move(away, root),
    )


def _s3_world(request: pytest.FixtureRequest, tmp_path: Path) -> World:
    server: S3Server = request.getfixturevalue("s3_for_contract")
    settings = server.settings(prefix=f"frames-{uuid4().hex}", timeout_s=5.0)
    return World(
        open_frame_store(settings, tmp_path),
        settings,
        lambda uri: server.data_dir / uri.removeprefix("s3://"),
        server.kill,
        lambda: _started(server),
    )


def _move(source: Path, target: Path) -> None:
    source.rename(target)


def _started(server: S3Server) -> None:
    server.start()


def image(data: bytes, uri: str) -> ImageRef:
    sha256 = hashlib.sha256(data).hexdigest()
    return ImageRef(uri=uri, sha256=sha256, size_bytes=len(data), media_type="image/jpeg", width=1, height=1)


async def put(store: FrameStore, data: bytes) -> ImageRef:
    uri = await store.put(data, sha256=hashlib.sha256(data).hexdigest(), media_type="image/jpeg")
    return image(data, uri)


async def put_at_last(store: FrameStore, data: bytes) -> ImageRef:
    """As callers do: a server may call two uploads of one object at once a conflict or a fault of its own."""
    for _ in range(20):
        try:
            return await put(store, data)
        except StoreUnavailableError:
            await asyncio.sleep(0.05)
    return await put(store, data)


@pytest.mark.parametrize("size", [1, 200_000, 3_000_000])
async def test_bytes_come_back_as_they_went_in(world: World, size: int) -> None:
    data = os.urandom(size)
    stored = await put(world.store, data)
    assert await world.store.get(stored) == data
    assert stored.uri.endswith(f"/{stored.sha256[:2]}/{stored.sha256}.jpg")


async def test_the_same_bytes_are_stored_once(world: World) -> None:
    data = os.urandom(1000)
    stored = await asyncio.gather(*(put_at_last(world.store, data) for _ in range(8)))
    again = await put(world.store, data)
    assert {ref.uri for ref in stored} == {again.uri}
    # As a set: the S3 server here may list an object twice that several clients have just put at once.
    assert {found.uri async for found in world.store.objects()} == {again.uri}


async def test_a_changed_object_is_detected(world: World) -> None:
    data = os.urandom(1000)
    stored = await put(world.store, data)
    world.path_of(stored.uri).write_bytes(data[:-1] + bytes([data[-1] ^ 1]))
    with pytest.raises(ImageCorruptError, match="SHA-256"):
        await world.store.get(stored)
    assert not ImageCorruptError.retriable


async def test_an_object_of_another_size_is_detected(world: World) -> None:
    data = os.urandom(1000)
    stored = await put(world.store, data)
    with pytest.raises(ImageCorruptError, match="1000 bytes"):
        await world.store.get(stored.model_copy(update={"size_bytes": 999}))


async def test_a_missing_object_is_no_fault_of_the_store(world: World) -> None:
    stored = await put(world.store, b"one")
    other = hashlib.sha256(b"two").hexdigest()
    uri = stored.uri.replace(f"{stored.sha256[:2]}/{stored.sha256}", f"{other[:2]}/{other}")
    with pytest.raises(ImageMissingError, match="no object"):
        await world.store.get(image(b"two", uri))


@pytest.mark.parametrize(
    "uri",
    [
        "file:///etc/passwd",
        "s3://elsewhere/frames/{ab}/{sha}.jpg",
        "{root}/../{ab}/{sha}.jpg.txt",
        "{root}/{ab}/../../secret",
        "{root}/00/00/{sha}.jpg",
        "https://example.org/{ab}/{sha}.jpg",
        "",
    ],
)
async def test_an_address_outside_the_store_is_refused(world: World, uri: str) -> None:
    stored = await put(world.store, b"inside")
    sha = stored.sha256
    root = stored.uri.removesuffix(f"/{sha[:2]}/{sha}.jpg")
    outside = uri.format(root=root, ab=sha[:2], sha=sha)
    with pytest.raises(ImageMissingError, match="not one of the frame store"):
        await world.store.get(stored.model_copy(update={"uri": outside}))
    with pytest.raises(ImageMissingError, match="not one of the frame store"):
        await world.store.delete(outside)
    assert await world.store.get(stored) == b"inside"


async def test_the_hash_of_the_event_must_be_the_hash_of_the_address(world: World) -> None:
    stored, other = await put(world.store, b"one"), await put(world.store, b"two")
    with pytest.raises(ImageMissingError):
        await world.store.get(stored.model_copy(update={"uri": other.uri}))


async def test_objects_lists_every_object_with_its_size(world: World) -> None:
    stored = [await put(world.store, os.urandom(size)) for size in range(1, 6)]
    await world.store.check()
    found = {entry.uri: entry async for entry in world.store.objects()}
    assert {uri: entry.size_bytes for uri, entry in found.items()} == {ref.uri: ref.size_bytes for ref in stored}
    assert all(entry.modified_at.utcoffset() is not None for entry in found.values())


async def test_delete_removes_and_may_be_repeated(world: World) -> None:
    stored, kept = await put(world.store, b"one"), await put(world.store, b"two")
    await world.store.delete(stored.uri)
    await world.store.delete(stored.uri)
    with pytest.raises(ImageMissingError):
        await world.store.get(stored)
    assert await world.store.get(kept) == b"two"


def make_old(world: World, uri: str) -> None:
    """Let the object be two days old."""
    then = time.time() - 2 * 86_400
    os.utime(world.path_of(uri), (then, then))


async def sweep_at_last(store: FrameStore, stored: ImageRef, cutoff: datetime) -> None:
    """As retention does: what failed, which the server here does now and then, is tried again."""
    for _ in range(100):
        with suppress(StoreUnavailableError):
            await store.delete_older(stored.uri, cutoff)
            return
        await asyncio.sleep(0.02)


async def test_old_objects_are_removed_and_young_ones_are_not(world: World) -> None:
    old, young = await put(world.store, b"old"), await put(world.store, b"young")
    make_old(world, old.uri)
    cutoff = datetime.now(UTC) - timedelta(days=1)
    assert await world.store.delete_older(young.uri, cutoff) is False
    assert await world.store.delete_older(old.uri, cutoff) is True
    assert await world.store.delete_older(old.uri, cutoff) is False
    assert [found.uri async for found in world.store.objects()] == [young.uri]
    with pytest.raises(ImageMissingError, match="not one of the frame store"):
        await world.store.delete_older("file:///etc/passwd", cutoff)


async def test_a_sweep_never_takes_what_a_put_returned_for(world: World) -> None:
    """Old content is sent again at the moment in which retention removes it."""
    contents = [os.urandom(1_000) for _ in range(15)]
    stored = [await put(world.store, data) for data in contents]
    cutoff = datetime.now(UTC) - timedelta(days=1)
    for _ in range(2):
        for one in stored:
            make_old(world, one.uri)
        tasks = [put_at_last(world.store, data) for data in contents]
        sweeps = [sweep_at_last(world.store, one, cutoff) for one in stored]
        await asyncio.gather(*(task for pair in zip(sweeps, tasks, strict=True) for task in pair))
        for one, data in zip(stored, contents, strict=True):
            assert await world.store.get(one) == data


async def test_a_store_that_is_away_is_unavailable_and_works_again(world: World) -> None:
    stored = await put(world.store, b"before")
    world.take_away()
    try:
        with pytest.raises(StoreUnavailableError):
            await world.store.get(stored)
        with pytest.raises(StoreUnavailableError):
            await put(world.store, b"meanwhile")
        with pytest.raises(StoreUnavailableError):
            await world.store.check()
    finally:
        world.bring_back()
    assert StoreUnavailableError.retriable
    await world.store.check()
    assert await world.store.get(stored) == b"before"
    assert await world.store.get(await put(world.store, b"after")) == b"after"


async def test_a_name_that_is_no_hash_is_refused(world: World) -> None:
    with pytest.raises(ValueError, match="SHA-256"):
        await world.store.put(b"x", sha256="../../etc/passwd", media_type="image/jpeg")
    with pytest.raises(ValueError, match="media type"):
        await world.store.put(b"x", sha256="0" * 64, media_type="text/html")


async def test_close_may_be_repeated(world: World) -> None:
    await world.store.close()
    await world.store.close()


WRITER = textwrap.dedent(
    """
    import asyncio, hashlib, os
    from pathlib import Path
    from infra.storage.frames.open import open_frame_store
    from infra.storage.settings import FrameSettings

    async def main() -> None:
        store = open_frame_store(FrameSettings.model_validate_json(os.environ["STORE"]), Path("."))

        async def write() -> None:
            while True:
                data = os.urandom(2_000_000)
                await store.put(data, sha256=hashlib.sha256(data).hexdigest(), media_type="image/png")
                print("stored", flush=True)

        await asyncio.gather(*(write() for _ in range(4)))

    asyncio.run(main())
    """
)


async def test_a_killed_writer_leaves_nothing_half_visible(world: World) -> None:
    fields = {
        name: value.get_secret_value() if isinstance(value, SecretStr) else value for name, value in world.settings
    }
    environment = os.environ | {"STORE": json.dumps(fields, default=str)}
    for _ in range(2):
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-c", WRITER, env=environment, stdout=subprocess.PIPE
        )
        assert process.stdout is not None
        for _ in range(5):
            assert await process.stdout.readline() == b"stored\n"
        process.send_signal(signal.SIGKILL)
        await process.wait()
    count = 0
    async for found in world.store.objects():
        data = world.path_of(found.uri).read_bytes()
        assert hashlib.sha256(data).hexdigest() in found.uri
        assert len(data) == found.size_bytes == 2_000_000
        count += 1
    assert count >= 10
