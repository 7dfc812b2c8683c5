"""The folder frame store beyond the contract: addresses, moved folders, links, leftovers, and missing extras."""

from __future__ import annotations

import asyncio
import hashlib
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from infra.errors import ImageMissingError, SettingsError, StoreUnavailableError, TransientError
from infra.storage.durable_files import locked_folder
from infra.storage.frames.addressing import ContentAddress
from infra.storage.frames.folder import FolderFrameStore
from infra.storage.frames.open import open_frame_store
from infra.storage.settings import FrameSettings
from schemas.events import ImageRef

DATA = b"a picture"
SHA256 = hashlib.sha256(DATA).hexdigest()
PLACE = f"{SHA256[:2]}/{SHA256}.png"


def image(uri: str) -> ImageRef:
    return ImageRef(uri=uri, sha256=SHA256, size_bytes=len(DATA), media_type="image/png", width=1, height=1)


async def test_a_folder_that_was_moved_still_serves_its_old_addresses(tmp_path: Path) -> None:
    old = FolderFrameStore(tmp_path / "old")
    uri = await old.put(DATA, sha256=SHA256, media_type="image/png")
    await old.close()
    (tmp_path / "old").rename(tmp_path / "new")
    new = FolderFrameStore(tmp_path / "new")
    assert await new.get(image(uri)) == DATA
    await new.close()


async def test_a_link_that_leads_out_of_the_folder_is_refused(tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    secret.write_bytes(DATA)
    store = FolderFrameStore(tmp_path / "frames")
    link = tmp_path / "frames" / PLACE
    link.parent.mkdir(parents=True)
    link.symlink_to(secret)
    with pytest.raises(ImageMissingError, match="not one of the frame store"):
        await store.get(image(link.as_uri()))
    await store.close()


async def test_leftovers_of_killed_writers_are_swept_and_never_listed(tmp_path: Path) -> None:
    root = tmp_path / "frames"
    await FolderFrameStore(root).close()
    unfinished = next(root.iterdir())
    old, young = unfinished / f"{SHA256}.old", unfinished / f"{SHA256}.young"
    for path in (old, young):
        path.write_bytes(DATA[:3])
    yesterday = time.time() - 86_400
    os.utime(old, (yesterday, yesterday))
    store = FolderFrameStore(root)
    assert not old.exists()
    assert young.exists(), "its writer may be alive"
    assert [stored async for stored in store.objects()] == []
    await store.close()


async def test_a_put_that_fails_leaves_no_unfinished_file(tmp_path: Path) -> None:
    root = tmp_path / "frames"
    store = FolderFrameStore(root)
    (root / SHA256[:2]).write_text("a file where a folder should be")
    with pytest.raises(StoreUnavailableError, match="STANDGALE_FRAMES__FOLDER"):
        await store.put(DATA, sha256=SHA256, media_type="image/png")
    assert [path.name for path in root.rglob("*") if path.is_file()] == [SHA256[:2]]
    await store.close()


async def refused_then_works(root: Path, spoil: Callable[[], None], mend: Callable[[], None], words: str) -> None:
    """While the folder is spoilt, puts and checks are refused with ``words``; nothing is half there; then all works."""
    store = FolderFrameStore(root)
    before = b"stored before"
    await store.put(before, sha256=hashlib.sha256(before).hexdigest(), media_type="image/png")
    spoil()
    try:
        for act in (store.put(DATA, sha256=SHA256, media_type="image/png"), store.check()):
            with pytest.raises(StoreUnavailableError, match=words) as caught:
                await act
            assert str(root) in str(caught.value)
            assert isinstance(caught.value, TransientError)
    finally:
        mend()
    assert [path.name for path in (root / ".unfinished").iterdir()] == []
    assert len([found async for found in store.objects()]) == 1
    await store.check()
    assert await store.get(image(await store.put(DATA, sha256=SHA256, media_type="image/png"))) == DATA
    await store.close()


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    folder = tmp_path / "small"
    folder.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(folder)]
    if subprocess.run(command, capture_output=True, check=False).returncode != 0:
        pytest.skip("mounting a small disk is not allowed here")
    yield folder
    subprocess.run(["umount", str(folder)], check=True)


def remount(disk: Path, options: str) -> None:
    subprocess.run(["mount", "-o", f"remount,{options}", str(disk)], check=True)


async def test_a_full_disk_refuses_frames_until_there_is_space(small_disk: Path) -> None:
    filler = small_disk / "filler"

    def fill() -> None:
        with filler.open("wb", buffering=0) as file, suppress(OSError):
            while True:
                file.write(bytes(4096))

    await refused_then_works(small_disk / "frames", fill, filler.unlink, "is full")


async def test_a_disk_turned_read_only_is_named(small_disk: Path) -> None:
    root = small_disk / "frames"
    await refused_then_works(
        root, lambda: remount(small_disk, "ro"), lambda: remount(small_disk, "rw"), "mounted read-only"
    )


async def test_put_after_folder_was_moved_does_not_create_it_again(tmp_path: Path) -> None:
    root, away = tmp_path / "frames", tmp_path / "away"

    def put_back() -> None:
        assert not root.exists()
        away.rename(root)

    await refused_then_works(root, lambda: _rename(root, away), put_back, "put the folder back")


async def test_an_empty_mount_point_is_not_filled(tmp_path: Path) -> None:
    root, away = tmp_path / "frames", tmp_path / "away"

    def unmount() -> None:
        root.rename(away)
        root.mkdir()

    def mount() -> None:
        assert list(root.iterdir()) == []
        root.rmdir()
        away.rename(root)

    await refused_then_works(root, unmount, mount, "mount its disk")


async def test_put_without_permission_reports_the_missing_right(tmp_path: Path) -> None:
    root, user = tmp_path / "frames", os.geteuid()

    def take_right() -> None:
        root.chmod(0)
        if user == 0:
            # The superuser needs no right.
            os.seteuid(65_534)

    def give_back() -> None:
        os.seteuid(user)
        root.chmod(0o755)

    await refused_then_works(root, take_right, give_back, "Permission denied.*give the user of this process the right")


def _rename(source: Path, target: Path) -> None:
    source.rename(target)


async def test_put_of_stored_content_renews_its_time(tmp_path: Path) -> None:
    store = FolderFrameStore(tmp_path / "frames")
    uri = await store.put(DATA, sha256=SHA256, media_type="image/png")
    path = tmp_path / "frames" / PLACE
    os.utime(path, (1, 1))
    began = time.time()
    assert await store.put(DATA, sha256=SHA256, media_type="image/png") == uri
    # The file system's clock may be some milliseconds behind the system's.
    assert path.stat().st_mtime > began - 1
    await store.close()


async def test_a_sweep_waits_for_a_put_of_the_same_content(tmp_path: Path) -> None:
    store = FolderFrameStore(tmp_path / "frames")
    uri = await store.put(DATA, sha256=SHA256, media_type="image/png")
    path = tmp_path / "frames" / PLACE
    os.utime(path, (1, 1))
    with locked_folder(path.parent, exclusive=False):
        sweep = asyncio.create_task(store.delete_older(uri, datetime.now(UTC)))
        # Two puts may hold the lock together, and the sweep then finds the new time of the object.
        await store.put(DATA, sha256=SHA256, media_type="image/png")
        os.utime(path, (time.time() + 60, time.time() + 60))
        assert not sweep.done()
    assert await sweep is False
    assert await store.get(image(uri)) == DATA
    await store.close()


async def test_a_folder_that_cannot_be_made_yet_is_named_and_made_later(tmp_path: Path) -> None:
    """A service starts while the disk is unavailable, and works when it is there."""
    blocked = tmp_path / "file"
    blocked.write_text("")
    store = open_frame_store(FrameSettings(folder=blocked / "frames"), tmp_path)
    for _ in range(2):
        with pytest.raises(StoreUnavailableError, match="file/frames"):
            await store.check()
    blocked.unlink()
    await store.check()
    assert (blocked / "frames").is_dir()
    await store.close()


async def test_open_frame_store_uses_data_directory_by_default(tmp_path: Path) -> None:
    store = open_frame_store(FrameSettings(), tmp_path)
    uri = await store.put(DATA, sha256=SHA256, media_type="image/png")
    assert uri == (tmp_path / "frames" / PLACE).as_uri()
    await store.close()


def test_s3_without_its_library_names_the_extra(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(sys.modules, "infra.storage.frames.s3", raising=False)
    monkeypatch.delitem(sys.modules, "infra.storage.s3_client", raising=False)
    for name in [name for name in sys.modules if name.partition(".")[0] == "aiobotocore"]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "aiobotocore", None)
    with pytest.raises(SettingsError, match="install the extra s3 of standgale: "):
        open_frame_store(FrameSettings(kind="s3"), tmp_path)


@given(st.binary(max_size=64), st.sampled_from(["image/jpeg", "image/png", "image/tiff", "image/webp"]), st.text())
def test_every_address_is_found_again_behind_any_root(data: bytes, media_type: str, root: str) -> None:
    address = ContentAddress.of(hashlib.sha256(data).hexdigest(), media_type)
    assert ContentAddress.in_path(f"{root}/{address.relative}") == address
    assert ContentAddress.in_path(address.relative) == address


@given(st.text(alphabet="0123456789abcdef./", max_size=90))
def test_every_content_address_stays_below_the_root(path: str) -> None:
    address = ContentAddress.in_path(path)
    if address is not None:
        assert path.endswith(address.relative)
        assert ".." not in address.relative
