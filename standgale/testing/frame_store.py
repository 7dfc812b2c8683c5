"""The contract of frame stores: inherit :class:`FrameStoreContract` and give it a fixture ``harness``."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import os
import pickle
import signal
import subprocess
import sys
from collections.abc import Callable
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from infra.errors import ImageCorruptError, ImageMissingError, StoreUnavailableError, TransientError
from infra.storage.frames.port import FrameStore
from schemas.events import ImageRef
from standgale.testing.factories import image_ref


class FrameStoreHarness:
    """A frame store for one test, and what happens to it from outside; an author derives from it."""

    def __init__(self, open_store: Callable[[], FrameStore]) -> None:
        """``open_store`` opens the store under test, as a process of its own would.

        A process that a test kills gets it pickled: a function of an installed module, or a :func:`functools.partial`
        of one.
        """
        self.open_store = open_store
        self.store = open_store()

    def content(self, uri: str) -> bytes:
        """The bytes that the stored object at ``uri`` has in its place (a file, a server's disk)."""
        raise NotImplementedError

    def overwrite(self, uri: str, data: bytes) -> None:
        """Put other bytes in the place of a stored object, as a failing disk does."""
        raise NotImplementedError

    def make_old(self, uri: str, age_s: float) -> None:
        """Let a stored object have been put ``age_s`` seconds ago."""
        raise NotImplementedError

    def take_away(self) -> None:
        """Make the store unavailable: stop its server, move its folder."""
        raise NotImplementedError

    def bring_back(self) -> None:
        """Make the store available again, with all it had."""
        raise NotImplementedError


def write_until_killed(open_store: Callable[[], FrameStore]) -> None:
    """Put object after object, four at a time, and print a line for each; run in a process that a test kills."""
    asyncio.run(_write(open_store()))


async def _write(store: FrameStore) -> None:
    async def write() -> None:
        while True:
            data = os.urandom(_LARGE)
            await store.put(data, sha256=hashlib.sha256(data).hexdigest(), media_type="image/png")
            print("stored", flush=True)

    await asyncio.gather(*(write() for _ in range(4)))


async def put(store: FrameStore, data: bytes) -> ImageRef:
    uri = await store.put(data, sha256=hashlib.sha256(data).hexdigest(), media_type="image/jpeg")
    return image_ref(data, uri)


async def put_at_last(store: FrameStore, data: bytes) -> ImageRef:
    """As callers do: a server may call two uploads of one object at once a conflict or an error of its own."""
    for _ in range(20):
        try:
            return await put(store, data)
        except StoreUnavailableError:
            await asyncio.sleep(0.05)
    return await put(store, data)


async def sweep_at_last(store: FrameStore, stored: ImageRef, cutoff: datetime) -> None:
    """As retention does: what failed, which the server here does now and then, is tried again."""
    for _ in range(100):
        with suppress(StoreUnavailableError):
            await store.delete_older(stored.uri, cutoff)
            return
        await asyncio.sleep(0.02)


# What write_until_killed runs in: the pickled function comes as text.
_WRITER = """
import base64, pickle, sys
from standgale.testing.frame_store import write_until_killed

write_until_killed(pickle.loads(base64.b64decode(sys.argv[1])))
"""
_LARGE = 2_000_000
_TWO_DAYS_S = 2 * 86_400


class FrameStoreContract:
    """All that :mod:`infra.storage.frames.port` promises; a subclass gives the fixture ``harness``."""

    @pytest.fixture
    def harness(self) -> FrameStoreHarness:
        """Gives the author's store, with means to change it from outside; closes it after the test."""
        raise NotImplementedError(f"{type(self).__name__} must have a fixture `harness` that gives a FrameStoreHarness")

    @pytest.mark.parametrize("size", [1, 200_000, 3_000_000])
    async def test_bytes_come_back_as_they_went_in(self, harness: FrameStoreHarness, size: int) -> None:
        data = os.urandom(size)
        stored = await put(harness.store, data)
        assert await harness.store.get(stored) == data
        assert stored.uri.endswith(f"/{stored.sha256[:2]}/{stored.sha256}.jpg")

    async def test_the_same_bytes_are_stored_once(self, harness: FrameStoreHarness) -> None:
        data = os.urandom(1000)
        stored = await asyncio.gather(*(put_at_last(harness.store, data) for _ in range(8)))
        again = await put(harness.store, data)
        assert {ref.uri for ref in stored} == {again.uri}
        # As a set: the S3 server here may list an object twice that several clients have just put at once.
        assert {found.uri async for found in harness.store.objects()} == {again.uri}

    async def test_a_changed_object_is_detected(self, harness: FrameStoreHarness) -> None:
        data = os.urandom(1000)
        stored = await put(harness.store, data)
        harness.overwrite(stored.uri, data[:-1] + bytes([data[-1] ^ 1]))
        with pytest.raises(ImageCorruptError, match="SHA-256"):
            await harness.store.get(stored)
        assert not issubclass(ImageCorruptError, TransientError)

    async def test_an_object_of_another_size_is_detected(self, harness: FrameStoreHarness) -> None:
        data = os.urandom(1000)
        stored = await put(harness.store, data)
        with pytest.raises(ImageCorruptError, match="1000 bytes"):
            await harness.store.get(stored.model_copy(update={"size_bytes": 999}))

    async def test_get_of_a_missing_object_raises_image_missing_error(self, harness: FrameStoreHarness) -> None:
        stored = await put(harness.store, b"one")
        other = hashlib.sha256(b"two").hexdigest()
        uri = stored.uri.replace(f"{stored.sha256[:2]}/{stored.sha256}", f"{other[:2]}/{other}")
        with pytest.raises(ImageMissingError, match="no object"):
            await harness.store.get(image_ref(b"two", uri))

    @pytest.mark.parametrize("size", [1, 12_000_000])
    async def test_a_file_is_stored_and_read_as_its_bytes_are(
        self, harness: FrameStoreHarness, size: int, tmp_path: Path
    ) -> None:
        """I14: what is too large for memory goes through files."""
        data = os.urandom(size)
        digest = hashlib.sha256(data).hexdigest()
        path = tmp_path / "original"
        path.write_bytes(data)
        uri = await harness.store.put_file(path, sha256=digest, media_type="image/tiff")
        stored = image_ref(data, uri).model_copy(update={"media_type": "image/tiff"})
        assert await harness.store.get(stored) == data
        async with harness.store.local(stored) as local:
            assert local.read_bytes() == data
        harness.make_old(uri, _TWO_DAYS_S)
        assert await harness.store.put_file(path, sha256=digest, media_type="image/tiff") == uri
        assert await harness.store.put(data, sha256=digest, media_type="image/tiff") == uri
        assert await harness.store.delete_older(uri, datetime.now(UTC) - timedelta(days=1)) is False
        path.unlink()
        assert await harness.store.get(stored) == data
        assert [found.uri async for found in harness.store.objects()] == [uri]
        with pytest.raises(ImageCorruptError, match="bytes"):
            async with harness.store.local(stored.model_copy(update={"size_bytes": size + 1})):
                pass
        harness.overwrite(uri, data[:-1] + bytes([data[-1] ^ 1]))
        with pytest.raises(ImageCorruptError, match="SHA-256"):
            async with harness.store.local(stored):
                pass
        await harness.store.delete(uri)
        with pytest.raises(ImageMissingError):
            async with harness.store.local(stored):
                pass

    async def test_find_returns_what_is_stored_by_its_digest(self, harness: FrameStoreHarness) -> None:
        """I14."""
        jpeg = await put(harness.store, os.urandom(700))
        webp = hashlib.sha256(b"webp").hexdigest()
        uri = await harness.store.put(b"webp", sha256=webp, media_type="image/webp")
        absent = hashlib.sha256(b"never put").hexdigest()
        found = await harness.store.find([absent, webp, jpeg.sha256])
        assert {digest: (one.uri, one.size_bytes) for digest, one in found.items()} == {
            jpeg.sha256: (jpeg.uri, 700),
            webp: (uri, 4),
        }
        harness.make_old(uri, _TWO_DAYS_S)
        (old,) = (await harness.store.find([webp])).values()
        assert _TWO_DAYS_S - 60 < (datetime.now(UTC) - old.modified_at).total_seconds() < _TWO_DAYS_S + 60
        await harness.store.delete(uri)
        assert await harness.store.find([webp, absent]) == await harness.store.find([]) == {}
        for text in ("../../etc/passwd", "A" * 64, ""):
            with pytest.raises(ValueError, match="SHA-256"):
                await harness.store.find([text])

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
    async def test_an_address_outside_the_store_is_refused(self, harness: FrameStoreHarness, uri: str) -> None:
        stored = await put(harness.store, b"inside")
        sha = stored.sha256
        root = stored.uri.removesuffix(f"/{sha[:2]}/{sha}.jpg")
        outside = uri.format(root=root, ab=sha[:2], sha=sha)
        with pytest.raises(ImageMissingError, match="not one of the frame store"):
            await harness.store.get(stored.model_copy(update={"uri": outside}))
        with pytest.raises(ImageMissingError, match="not one of the frame store"):
            await harness.store.delete(outside)
        assert await harness.store.get(stored) == b"inside"

    async def test_the_hash_of_the_event_must_be_the_hash_of_the_address(self, harness: FrameStoreHarness) -> None:
        stored, other = await put(harness.store, b"one"), await put(harness.store, b"two")
        with pytest.raises(ImageMissingError):
            await harness.store.get(stored.model_copy(update={"uri": other.uri}))

    async def test_objects_lists_every_object_with_its_size(self, harness: FrameStoreHarness) -> None:
        stored = [await put(harness.store, os.urandom(size)) for size in range(1, 6)]
        await harness.store.check()
        found = {entry.uri: entry async for entry in harness.store.objects()}
        assert {uri: entry.size_bytes for uri, entry in found.items()} == {ref.uri: ref.size_bytes for ref in stored}
        assert all(entry.modified_at.utcoffset() is not None for entry in found.values())

    async def test_delete_removes_and_may_be_repeated(self, harness: FrameStoreHarness) -> None:
        stored, kept = await put(harness.store, b"one"), await put(harness.store, b"two")
        await harness.store.delete(stored.uri)
        await harness.store.delete(stored.uri)
        with pytest.raises(ImageMissingError):
            await harness.store.get(stored)
        assert await harness.store.get(kept) == b"two"

    async def test_old_objects_are_removed_and_young_ones_are_not(self, harness: FrameStoreHarness) -> None:
        old, young = await put(harness.store, b"old"), await put(harness.store, b"young")
        harness.make_old(old.uri, _TWO_DAYS_S)
        cutoff = datetime.now(UTC) - timedelta(days=1)
        assert await harness.store.delete_older(young.uri, cutoff) is False
        assert await harness.store.delete_older(old.uri, cutoff) is True
        assert await harness.store.delete_older(old.uri, cutoff) is False
        assert [found.uri async for found in harness.store.objects()] == [young.uri]
        with pytest.raises(ImageMissingError, match="not one of the frame store"):
            await harness.store.delete_older("file:///etc/passwd", cutoff)

    async def test_delete_older_never_removes_an_object_that_a_put_returned_for(
        self, harness: FrameStoreHarness
    ) -> None:
        """Old content is sent again at the moment in which retention removes it."""
        contents = [os.urandom(1_000) for _ in range(15)]
        stored = [await put(harness.store, data) for data in contents]
        cutoff = datetime.now(UTC) - timedelta(days=1)
        for _ in range(2):
            for one in stored:
                harness.make_old(one.uri, _TWO_DAYS_S)
            tasks = [put_at_last(harness.store, data) for data in contents]
            sweeps = [sweep_at_last(harness.store, one, cutoff) for one in stored]
            await asyncio.gather(*(task for pair in zip(sweeps, tasks, strict=True) for task in pair))
            for one, data in zip(stored, contents, strict=True):
                assert await harness.store.get(one) == data

    async def test_a_store_taken_away_is_unavailable_and_works_again(self, harness: FrameStoreHarness) -> None:
        stored = await put(harness.store, b"before")
        harness.take_away()
        try:
            with pytest.raises(StoreUnavailableError):
                await harness.store.get(stored)
            with pytest.raises(StoreUnavailableError):
                await put(harness.store, b"meanwhile")
            with pytest.raises(StoreUnavailableError):
                await harness.store.find([stored.sha256, hashlib.sha256(b"meanwhile").hexdigest()])
            with pytest.raises(StoreUnavailableError):
                await harness.store.check()
        finally:
            harness.bring_back()
        assert issubclass(StoreUnavailableError, TransientError)
        await harness.store.check()
        assert await harness.store.get(stored) == b"before"
        assert await harness.store.get(await put(harness.store, b"after")) == b"after"

    async def test_a_name_that_is_no_hash_is_refused(self, harness: FrameStoreHarness) -> None:
        with pytest.raises(ValueError, match="SHA-256"):
            await harness.store.put(b"x", sha256="../../etc/passwd", media_type="image/jpeg")
        with pytest.raises(ValueError, match="media type"):
            await harness.store.put(b"x", sha256="0" * 64, media_type="text/html")

    async def test_close_may_be_repeated(self, harness: FrameStoreHarness) -> None:
        await harness.store.close()
        await harness.store.close()

    async def test_a_killed_writer_leaves_nothing_half_visible(self, harness: FrameStoreHarness) -> None:
        opener = base64.b64encode(pickle.dumps(harness.open_store)).decode()
        for _ in range(2):
            process = await asyncio.create_subprocess_exec(
                sys.executable, "-P", "-c", _WRITER, opener, stdout=subprocess.PIPE
            )
            assert process.stdout is not None
            for _ in range(5):
                assert await process.stdout.readline() == b"stored\n"
            process.send_signal(signal.SIGKILL)
            await process.wait()
        count = 0
        async for found in harness.store.objects():
            data = harness.content(found.uri)
            assert hashlib.sha256(data).hexdigest() in found.uri
            assert len(data) == found.size_bytes == _LARGE
            count += 1
        assert count >= 10
