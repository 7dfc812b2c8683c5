"""Puts into the folder store that come together share the waits for the disk; each is durable, or fails alone."""

from __future__ import annotations

import asyncio
import errno
import gc
import hashlib
import os
import threading
import time
import tracemalloc
from collections.abc import AsyncIterator, Callable, Sequence
from functools import partial
from pathlib import Path

import pytest

from infra.errors import StoreFullError, StoreUnavailableError
from infra.storage.durable_files import locked_folder
from infra.storage.frames import folder_group
from infra.storage.frames.folder import FolderFrameStore
from standgale.testing.waiting import until

LIMIT_S = 10.0


def picture(number: int) -> tuple[bytes, str]:
    """Return content, and its hash."""
    data = b"picture %d" % number * 100
    return data, hashlib.sha256(data).hexdigest()


async def put(store: FolderFrameStore, number: int) -> str:
    data, digest = picture(number)
    return await store.put(data, sha256=digest, media_type="image/png")


def path_of(root: Path, number: int) -> Path:
    digest = picture(number)[1]
    return root / digest[:2] / f"{digest}.png"


@pytest.fixture
async def store(tmp_path: Path) -> AsyncIterator[FolderFrameStore]:
    store = FolderFrameStore(tmp_path)
    yield store
    await store.close()


class Disk:
    """Stands between the store and the disk: records the syncs and new names, in order, and can hold or refuse them."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.steps: list[tuple[str, str]] = []
        self.refused: Callable[[str], bool] = lambda path: False
        self.free = threading.Event()
        self.free.set()
        self.held = 0
        """How often the disk was asked to sync, also while it is not free"""
        self._sync, self._rename = folder_group.sync_file, os.rename
        monkeypatch.setattr(folder_group, "sync_file", self._sync_file)
        monkeypatch.setattr(os, "rename", self._name)

    def _sync_file(self, descriptor: int) -> None:
        path = str(Path(f"/proc/self/fd/{descriptor}").readlink())
        self.held += 1
        assert self.free.wait(LIMIT_S)
        if self.refused(path):
            raise OSError(errno.EIO, "Input/output error")
        self._sync(descriptor)
        self.steps.append(("sync", path))

    def is_held(self, times: int) -> bool:
        return self.held >= times

    def _name(self, source: str, target: str) -> None:
        self._rename(source, target)
        self.steps.append(("name", target))


@pytest.fixture
def disk(monkeypatch: pytest.MonkeyPatch) -> Disk:
    return Disk(monkeypatch)


async def put_together(store: FolderFrameStore, disk: Disk, numbers: Sequence[int]) -> list[str | BaseException]:
    """Put pictures while those before them wait for the disk, so that they are written together."""
    disk.free.clear()
    first = [asyncio.create_task(put(store, -number)) for number in (1, 2, 3)]
    await asyncio.sleep(0.05)
    together = [asyncio.create_task(put(store, number)) for number in numbers]
    await asyncio.sleep(0.05)
    assert not any(task.done() for task in (*first, *together))
    disk.steps.clear()
    disk.free.set()
    async with asyncio.timeout(LIMIT_S):
        await asyncio.gather(*first)
        return await asyncio.gather(*together, return_exceptions=True)


async def test_each_content_is_synced_before_its_name_and_its_folder_after(
    store: FolderFrameStore, disk: Disk, tmp_path: Path
) -> None:
    numbers = range(40)
    await put_together(store, disk, numbers)
    for number in numbers:
        target = path_of(tmp_path, number)
        named = disk.steps.index(("name", str(target)))
        content = [
            at
            for at, (what, path) in enumerate(disk.steps)
            if what == "sync" and target.name in path and "unfin" in path
        ]
        assert content, "the content was synced"
        assert max(content) < named
        assert ("sync", str(target.parent)) in disk.steps[named:]


async def test_a_caller_returns_when_name_and_content_are_synced(
    store: FolderFrameStore, disk: Disk, tmp_path: Path
) -> None:
    tasks = [asyncio.create_task(put(store, number)) for number in range(30)]
    for number, task in enumerate(tasks):
        await task
        steps = list(disk.steps)
        named = steps.index(("name", str(path_of(tmp_path, number))))
        assert ("sync", str(path_of(tmp_path, number).parent)) in steps[named:]


async def test_frames_that_wait_together_share_the_sync_of_a_folder(
    store: FolderFrameStore, disk: Disk, tmp_path: Path
) -> None:
    numbers = [number for number in range(5_000) if picture(number)[1].startswith("ab")]
    assert len(numbers) > 10
    await put_together(store, disk, numbers)
    syncs_of_the_folder = [path for what, path in disk.steps if what == "sync" and path == str(tmp_path / "ab")]
    assert len(syncs_of_the_folder) <= 2
    assert len(list(tmp_path.glob("ab/*.png"))) == len(numbers)


async def test_a_frame_whose_content_cannot_be_synced_fails_alone(
    store: FolderFrameStore, disk: Disk, tmp_path: Path
) -> None:
    bad = picture(7)[1]
    disk.refused = lambda path: bad in path
    results = await put_together(store, disk, range(20))
    assert [number for number, result in enumerate(results) if not isinstance(result, str)] == [7]
    assert isinstance(results[7], StoreUnavailableError)
    assert "Input/output error" in str(results[7])
    assert not path_of(tmp_path, 7).exists()
    assert list((tmp_path / ".unfinished").iterdir()) == []
    disk.refused = lambda path: False
    assert (await put(store, 7)).endswith(path_of(tmp_path, 7).name)


async def test_a_folder_that_cannot_be_synced_fails_its_frames_alone(
    store: FolderFrameStore, disk: Disk, tmp_path: Path
) -> None:
    bad = str(path_of(tmp_path, 7).parent)
    disk.refused = lambda path: path == bad
    results = await put_together(store, disk, range(20))
    failed = [number for number, result in enumerate(results) if isinstance(result, StoreUnavailableError)]
    assert failed == [number for number in range(20) if str(path_of(tmp_path, number).parent) == bad]


async def test_a_file_where_a_folder_should_be_fails_its_frame_alone(
    store: FolderFrameStore, disk: Disk, tmp_path: Path
) -> None:
    path_of(tmp_path, 7).parent.write_text("")
    results = await put_together(store, disk, range(5, 9))
    assert [isinstance(result, StoreUnavailableError) for result in results] == [False, False, True, False]


async def test_known_frames_of_a_group_get_a_new_time_each_durably(
    store: FolderFrameStore, disk: Disk, tmp_path: Path
) -> None:
    for number in range(10):
        await put(store, number)
        os.utime(path_of(tmp_path, number), (1, 1))
    path_of(tmp_path, 3).write_bytes(b"damaged: of another size")
    began = time.time()
    await put_together(store, disk, range(12))
    for number in range(12):
        path = path_of(tmp_path, number)
        assert path.read_bytes() == picture(number)[0]
        assert path.stat().st_mtime > began - 1
        assert ("sync", str(path.parent)) in disk.steps
    renewed = [number for number in range(12) if ("sync", str(path_of(tmp_path, number))) in disk.steps]
    assert renewed == [0, 1, 2, 4, 5, 6, 7, 8, 9]


async def test_the_same_content_many_times_at_once_is_stored_once(store: FolderFrameStore, tmp_path: Path) -> None:
    uris = await asyncio.gather(*(put(store, 1) for _ in range(50)))
    assert set(uris) == {path_of(tmp_path, 1).as_uri()}
    assert path_of(tmp_path, 1).read_bytes() == picture(1)[0]
    assert list((tmp_path / ".unfinished").iterdir()) == []


async def test_a_folder_locked_by_another_process_holds_up_its_own_frames_only(
    store: FolderFrameStore, disk: Disk, tmp_path: Path
) -> None:
    folder = path_of(tmp_path, 7).parent
    folder.mkdir()
    with locked_folder(folder, exclusive=True):
        tasks = {number: asyncio.create_task(put(store, number)) for number in range(20)}
        others = [task for number, task in tasks.items() if path_of(tmp_path, number).parent != folder]
        async with asyncio.timeout(LIMIT_S):
            await asyncio.gather(*others)
        assert not tasks[7].done()
        assert not path_of(tmp_path, 7).exists()
    async with asyncio.timeout(LIMIT_S):
        await tasks[7]
    assert path_of(tmp_path, 7).read_bytes() == picture(7)[0]


async def test_a_group_stores_what_fits_on_the_disk(
    disk: Disk, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    size = len(picture(1)[0])
    found = os.statvfs(tmp_path)
    free = found.f_bavail * found.f_frsize
    kept = free - 10 * size
    monkeypatch.setattr(os, "statvfs", lambda path: found)
    store = FolderFrameStore(tmp_path, min_free_bytes=kept)
    results = await put_together(store, disk, range(10, 30))
    stored = [result for result in results if isinstance(result, str)]
    assert 1 <= len(stored) <= 10
    assert all(isinstance(result, str | StoreFullError) for result in results)
    assert "MIN_FREE_BYTES" in str(next(result for result in results if not isinstance(result, str)))
    await store.close()


async def test_a_put_cancelled_while_it_waits_is_never_written(
    store: FolderFrameStore, disk: Disk, tmp_path: Path
) -> None:
    disk.free.clear()
    first = []
    for busy in (1, 2):
        first.append(asyncio.create_task(put(store, busy)))
        await until(partial(disk.is_held, busy))
    task = asyncio.create_task(put(store, 9))
    await asyncio.sleep(0.05)
    task.cancel()
    await asyncio.wait([task])
    disk.free.set()
    await asyncio.gather(*first)
    await store.close()
    assert not path_of(tmp_path, 9).exists()


async def test_close_stores_what_waits_and_refuses_what_comes_later(
    store: FolderFrameStore, disk: Disk, tmp_path: Path
) -> None:
    disk.free.clear()
    tasks = [asyncio.create_task(put(store, number)) for number in range(10)]
    await asyncio.sleep(0.05)
    closing = asyncio.create_task(store.close())
    await asyncio.sleep(0.05)
    with pytest.raises(StoreUnavailableError, match="closed"):
        await put(store, 11)
    assert not closing.done()
    disk.free.set()
    async with asyncio.timeout(LIMIT_S):
        await asyncio.gather(closing, *tasks)
    assert len(list(tmp_path.glob("??/*.png"))) == 10
    await store.close()


async def test_a_defect_fails_the_callers_and_the_next_put_works(
    store: FolderFrameStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> None:
        raise RuntimeError("a defect")

    with monkeypatch.context() as patched:
        patched.setattr(folder_group.FrameGroups, "_with_space", fail)
        with pytest.raises(StoreUnavailableError, match="a defect"):
            await put(store, 1)
    assert (await put(store, 1)) == path_of(tmp_path, 1).as_uri()


async def test_errors_keep_no_pictures_in_memory(store: FolderFrameStore, disk: Disk) -> None:
    disk.refused = lambda path: True
    size = 1_000_000

    async def refused(number: int) -> None:
        data = bytes([number]) * size
        with pytest.raises(StoreUnavailableError):
            await store.put(data, sha256=hashlib.sha256(data).hexdigest(), media_type="image/png")

    gc.disable()
    try:
        await refused(0)
        tracemalloc.start()
        for number in range(1, 20):
            await refused(number)
        held, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
        gc.enable()
    assert held < 5 * size
