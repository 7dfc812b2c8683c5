"""A full folder of frames (C-S1-112): it refuses with a reason, and accepts again when there is space."""

from __future__ import annotations

import errno
import os
from hashlib import sha256
from pathlib import Path
from types import SimpleNamespace

import pytest
from prometheus_client import REGISTRY

from infra.errors import SettingsError, StoreFullError
from infra.storage.frames import disk_space
from infra.storage.frames.folder import FolderFrameStore
from infra.storage.frames.open import open_frame_store
from infra.storage.settings import FrameSettings
from standgale.settings import load_settings
from standgale.testing.waiting import until


async def put(store: FolderFrameStore, data: bytes) -> str:
    return await store.put(data, sha256=sha256(data).hexdigest(), media_type="image/png")


def free(monkeypatch: pytest.MonkeyPatch, free_bytes: int, *, blocks: int = 1_000_000) -> None:
    found = SimpleNamespace(f_blocks=blocks, f_bavail=free_bytes, f_frsize=1)
    monkeypatch.setattr(disk_space.os, "statvfs", lambda _: found)


async def test_a_frame_that_would_leave_too_little_free_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = FolderFrameStore(tmp_path, min_free_bytes=100_000)
    free(monkeypatch, 150_000)
    await store.check()
    uri = await put(store, bytes(50_000))
    with pytest.raises(StoreFullError, match=r"STANDGALE_FRAMES__MIN_FREE_BYTES.*100000; remove old frames") as refused:
        await put(store, bytes(50_001))
    assert refused.value.code == "STORAGE_FULL"
    assert [each.uri async for each in store.objects()] == [uri]
    # Stored content needs no space.
    assert await put(store, bytes(50_000)) == uri
    free(monkeypatch, 100_000)
    with pytest.raises(StoreFullError):
        await store.check()
    assert REGISTRY.get_sample_value("standgale_frame_store_bytes", {"what": "free"}) == 100_000
    free(monkeypatch, 200_000)
    await store.check()
    await put(store, bytes(50_001))
    # A file system that does not report its size counts as not full.
    free(monkeypatch, 0, blocks=0)
    await store.check()
    await store.close()


async def test_the_largest_size_of_all_frames_together(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(disk_space, "_SCAN_WHEN_FULL_S", 0.0)
    monkeypatch.setattr(disk_space, "_PAUSE_PER_SCAN", 0.0)
    before = FolderFrameStore(tmp_path)
    old = [await put(before, bytes([number]) * 1_000) for number in range(3)]
    await before.close()
    store = FolderFrameStore(tmp_path, max_bytes=5_500)
    # The first scan runs in parallel with the first check or write.
    await store.check()
    await until(lambda: used() == 3_000)
    await put(store, b"a" * 1_000)
    await until(lambda: used() == 4_000)
    await put(store, b"b" * 1_000)
    with pytest.raises(StoreFullError, match=r"its frames are 5000 bytes.*STANDGALE_FRAMES__MAX_BYTES\) is 5500"):
        await put(store, b"c" * 1_000)
    # Space is freed, and the next scan finds it.
    for uri in old:
        await store.delete(uri)
    await until(lambda: taken(store, b"c" * 1_000))
    await store.close()


def used() -> float | None:
    return REGISTRY.get_sample_value("standgale_frame_store_bytes", {"what": "used"})


async def taken(store: FolderFrameStore, data: bytes) -> bool:
    try:
        await put(store, data)
    except StoreFullError:
        return False
    return True


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT])
async def test_a_full_disk_or_quota_has_the_same_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    store = FolderFrameStore(tmp_path)

    def full(*_: object) -> int:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr("infra.storage.frames.folder.os.write", full)
    with pytest.raises(StoreFullError, match="not full"):
        await put(store, b"a")
    with pytest.raises(StoreFullError):
        await store.check()
    monkeypatch.undo()
    await store.check()
    assert list((tmp_path / ".unfinished").iterdir()) == []
    await store.close()


async def test_the_settings_reach_the_store(tmp_path: Path) -> None:
    store = open_frame_store(FrameSettings(min_free_bytes=10**18), tmp_path)
    with pytest.raises(StoreFullError):
        await store.check()
    await store.close()


def test_a_bucket_is_not_measured() -> None:
    with pytest.raises(SettingsError, match="give the bucket a quota"):
        load_settings(overrides={"frames.kind": "s3", "frames.max_bytes": 100})
