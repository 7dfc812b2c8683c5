"""I14: uploads in a folder are whole or can be continued, and no writer changes one that has ended."""

from __future__ import annotations

import errno
import os
import threading
import time
from collections.abc import AsyncIterator
from hashlib import sha256
from pathlib import Path
from urllib.parse import parse_qsl, urlsplit

import pytest

from infra.errors import StoreFullError, StoreUnavailableError
from infra.storage.frames.folder import FolderFrameStore
from infra.storage.originals import folder as folder_module
from infra.storage.originals.errors import UploadInProgressError, WrongContentError, WrongOffsetError
from infra.storage.originals.folder import FolderUploads
from infra.storage.originals.port import Upload

DATA = os.urandom(300_000)
DIGEST = sha256(DATA).hexdigest()
UPLOAD = Upload("drone-1", DIGEST, len(DATA), "image/tiff")
OTHER = Upload("drone-1", sha256(b"other").hexdigest(), 5, "image/tiff")


@pytest.fixture
def uploads(tmp_path: Path) -> FolderUploads:
    FolderFrameStore(tmp_path)
    return FolderUploads(tmp_path)


async def pieces(data: bytes, size: int = 70_000) -> AsyncIterator[bytes]:
    for start in range(0, len(data), size):
        yield data[start : start + size]


async def broken(data: bytes) -> AsyncIterator[bytes]:
    yield data
    raise ConnectionResetError


async def received(uploads: FolderUploads) -> bytes | None:
    async with uploads.received("drone-1", DIGEST) as path:
        return None if path is None else path.read_bytes()


async def test_a_whole_upload_is_received(uploads: FolderUploads) -> None:
    assert await received(uploads) is None
    assert await uploads.write(UPLOAD, 0, pieces(DATA)) == len(DATA)
    assert await received(uploads) == DATA
    assert await uploads.write(UPLOAD, 0, broken(b"")) == len(DATA)
    await uploads.discard("drone-1", DIGEST)
    await uploads.discard("drone-1", DIGEST)
    assert await received(uploads) is None


async def test_a_part_stays_and_continues_where_it_ended(uploads: FolderUploads) -> None:
    with pytest.raises(StoreUnavailableError):
        await _as_store_error(uploads.write(UPLOAD, 0, broken(DATA[:1_000])))
    assert await uploads.offset(UPLOAD) == 1_000
    assert await received(uploads) is None
    with pytest.raises(WrongOffsetError) as caught:
        await uploads.write(UPLOAD, 999, pieces(DATA[999:]))
    assert caught.value.offset == 1_000
    assert await uploads.write(UPLOAD, 1_000, pieces(DATA[1_000:2_000])) == 2_000
    assert await uploads.write(UPLOAD, 2_000, pieces(DATA[2_000:])) == len(DATA)
    assert await received(uploads) == DATA


async def _as_store_error(work: object) -> None:
    try:
        await work  # type: ignore[misc]  # an awaitable
    except ConnectionResetError as error:
        raise StoreUnavailableError("reset") from error


async def test_other_bytes_or_more_of_them_leave_nothing(uploads: FolderUploads) -> None:
    with pytest.raises(WrongContentError, match="sha256"):
        await uploads.write(UPLOAD, 0, pieces(DATA[:-1] + b"x"))
    with pytest.raises(WrongContentError, match="more than"):
        await uploads.write(UPLOAD, 0, pieces(DATA + b"x"))
    assert await uploads.pending(OTHER, 9, 60.0) == await uploads.offset(UPLOAD) == 0


async def test_an_upload_damaged_on_disk_is_removed(uploads: FolderUploads, tmp_path: Path) -> None:
    await uploads.write(UPLOAD, 0, pieces(DATA))
    (tmp_path / ".originals" / "drone-1" / f"{DIGEST}.whole").write_bytes(DATA[:-1] + b"x")
    with pytest.raises(WrongContentError):
        await received(uploads)
    assert await received(uploads) is None


async def test_a_second_writer_never_changes_an_upload(
    uploads: FolderUploads, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It has opened the part, and the first writer ends it before the second one has the lock."""

    async def meanwhile() -> AsyncIterator[bytes]:
        yield DATA[:1_000]
        with pytest.raises(UploadInProgressError):
            await uploads.write(UPLOAD, 0, pieces(DATA))
        yield DATA[1_000:]

    real, opened, go_on = folder_module.fcntl.flock, threading.Event(), threading.Event()

    def late(descriptor: int, how: int) -> None:
        opened.set()
        go_on.wait(10)
        real(descriptor, how)

    await uploads.write(UPLOAD, 0, pieces(DATA[:500]))
    monkeypatch.setattr(folder_module.fcntl, "flock", late)
    errors: list[Exception] = []

    def second() -> None:
        try:
            os.close(uploads._open_part(UPLOAD, 0))
        except UploadInProgressError as error:
            errors.append(error)

    thread = threading.Thread(target=second)
    thread.start()
    assert opened.wait(10)
    monkeypatch.setattr(folder_module.fcntl, "flock", real)
    assert await uploads.write(UPLOAD, 0, meanwhile()) == len(DATA)
    go_on.set()
    thread.join()
    assert len(errors) == 1
    assert await received(uploads) == DATA


async def test_a_sweep_removes_what_is_old(uploads: FolderUploads, tmp_path: Path) -> None:
    assert await uploads.sweep(60.0) == 0
    await uploads.write(UPLOAD, 0, pieces(DATA[:10]))
    await uploads.grant(UPLOAD, 60.0)
    assert await uploads.sweep(60.0) == 0
    old = time.time() - 120
    os.utime(tmp_path / ".originals" / "drone-1" / f"{DIGEST}.part", (old, old))
    assert await uploads.sweep(60.0) == 1
    assert [path.name for path in (tmp_path / ".originals").iterdir()] == ["key"]


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT])
async def test_a_disk_that_becomes_full_keeps_no_part(
    uploads: FolderUploads, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    def full(descriptor: int, piece: bytes, at: int) -> int:
        if at > 100_000:
            raise OSError(number, "full")
        return real(descriptor, piece, at)

    real = os.pwrite
    monkeypatch.setattr(folder_module.os, "pwrite", full)
    with pytest.raises(StoreFullError):
        await uploads.write(UPLOAD, 0, pieces(DATA))
    assert await uploads.pending(OTHER, 9, 60.0) == 0
    monkeypatch.undo()
    assert await uploads.write(UPLOAD, 0, pieces(DATA)) == len(DATA)


async def test_a_disk_that_is_not_mounted_gets_no_uploads(tmp_path: Path) -> None:
    uploads = FolderUploads(tmp_path)
    with pytest.raises(StoreUnavailableError):
        await uploads.write(UPLOAD, 0, pieces(DATA))
    with pytest.raises(StoreUnavailableError):
        await uploads.grant(UPLOAD, 60.0)
    assert list(tmp_path.iterdir()) == []


async def test_an_upload_that_wrote_nothing_is_none_that_waits(tmp_path: Path, uploads: FolderUploads) -> None:
    with pytest.raises(WrongOffsetError):
        await uploads.write(UPLOAD, 5, pieces(DATA))
    with pytest.raises(StoreFullError):
        await FolderUploads(tmp_path, min_free_bytes=10**15).write(UPLOAD, 0, pieces(DATA))
    with pytest.raises(StoreUnavailableError):
        await _as_store_error(uploads.write(UPLOAD, 0, broken(b"")))
    assert await uploads.pending(OTHER, 9, 60.0) == 0
    assert await uploads.write(UPLOAD, 0, pieces(DATA)) == len(DATA)
    assert await uploads.pending(OTHER, 9, 60.0) == 1


async def test_an_announcement_keeps_its_file_when_another_one_ends(tmp_path: Path, uploads: FolderUploads) -> None:
    store = FolderFrameStore(tmp_path)
    await uploads.write(UPLOAD, 0, pieces(DATA))
    async with uploads.received("drone-1", DIGEST) as first, uploads.received("drone-1", DIGEST) as second:
        assert first is not None and second is not None
        assert await uploads.pending(OTHER, 10, 60.0) == 1
        await store.put_file(first, sha256=DIGEST, media_type="image/tiff")
        await uploads.discard("drone-1", DIGEST)
        assert second.read_bytes() == DATA
        await store.put_file(second, sha256=DIGEST, media_type="image/tiff")
    assert len([found async for found in store.objects()]) == 1
    assert list((tmp_path / ".originals" / "drone-1").iterdir()) == []
    await store.close()


async def test_a_sweep_removes_links_of_killed_announcements_by_age(tmp_path: Path, uploads: FolderUploads) -> None:
    await uploads.write(UPLOAD, 0, pieces(DATA))
    whole = tmp_path / ".originals" / "drone-1" / f"{DIGEST}.whole"
    os.utime(whole, (0, 0))
    async with uploads.received("drone-1", DIGEST) as path:
        assert await uploads.sweep(60.0) == 1
        assert path is not None and path.read_bytes() == DATA
    left = whole.with_name(f"{DIGEST}.taken-0")
    left.write_bytes(b"")
    assert await uploads.sweep(-1.0) == 1
    assert not left.exists()


@pytest.mark.parametrize("wrong_s", [-864_000.0, 864_000.0])
async def test_a_gateway_with_a_wrong_clock_keeps_uploads_and_their_addresses(
    uploads: FolderUploads, monkeypatch: pytest.MonkeyPatch, wrong_s: float
) -> None:
    right = await uploads.grant(UPLOAD, 60.0)
    await uploads.write(UPLOAD, 0, pieces(DATA))
    now_s = time.time
    monkeypatch.setattr(time, "time", lambda: now_s() + wrong_s)
    for grant in (right, await uploads.grant(UPLOAD, 60.0)):
        query = dict(parse_qsl(urlsplit(grant.url).query))
        assert await uploads.verify("drone-1", DIGEST, query) == UPLOAD
        monkeypatch.setattr(time, "time", now_s)
        assert await uploads.verify("drone-1", DIGEST, query) == UPLOAD
        monkeypatch.setattr(time, "time", lambda: now_s() + wrong_s)
    assert await uploads.sweep(60.0) == 0
    assert await received(uploads) == DATA
