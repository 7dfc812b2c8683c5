"""Folders as sources: order, where to continue, and what is refused."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from infra.errors import SettingsError
from ingest.replay.errors import SourceUnavailableError
from ingest.replay.port import Picture
from ingest.replay.sources import folder as module
from ingest.replay.sources.folder import FolderSource
from tests.unit.ingest.replay.items import names, positions, read_all

SUFFIXES = (".jpg", ".png")


def source(root: Path, max_bytes: int = 100) -> FolderSource:
    return FolderSource(root, SUFFIXES, max_bytes)


def fill(root: Path, *paths: str) -> None:
    for each in paths:
        path = root / each
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(each.encode())


@pytest.mark.parametrize("page", [2, 3, 20_000])
async def test_items_of_folders_come_by_name_and_continue(tmp_path, monkeypatch, page):
    monkeypatch.setattr(module, "_PAGE", page)
    wanted = ["a/1.jpg", "a/2.JPG", "a/b/1.jpg", "b.jpg", "c/%/x y.jpg", "c/ü.png", "d.jpg"]
    fill(tmp_path, *reversed(wanted), "a/.hidden.jpg", ".git/x.jpg", "note.txt", "b.jpg.json")
    found = await names(source(tmp_path))
    assert found == wanted
    for number, position in enumerate(await positions(source(tmp_path))):
        assert await names(source(tmp_path), position) == wanted[number + 1 :]


async def test_items_continue_after_a_file_that_is_gone(tmp_path):
    fill(tmp_path, "a/1.jpg", "a/2.jpg", "b.jpg")
    first = (await positions(source(tmp_path)))[0]
    (tmp_path / "a/1.jpg").unlink()
    assert await names(source(tmp_path), first) == ["a/2.jpg", "b.jpg"]


async def test_load_refuses_what_is_no_regular_file(tmp_path):
    fill(tmp_path, "a.jpg", "large.jpg", "old.zip", "film.mp4")
    (tmp_path / "large.jpg").write_bytes(b"x" * 101)
    os.mkfifo(tmp_path / "fifo.jpg")
    (tmp_path / "link.jpg").symlink_to("/etc/passwd")
    (tmp_path / "loop").symlink_to(tmp_path)
    fill(tmp_path, "side.jpg", "side.jpg.json")
    found = await read_all(source(tmp_path))
    assert isinstance(found.pop("a.jpg"), Picture)
    assert found == {
        "large.jpg": "FILE_TOO_LARGE",
        "old.zip": "NESTED_ARCHIVE",
        "film.mp4": "VIDEO",
        "fifo.jpg": "NOT_A_FILE",
        "link.jpg": "LINK",
        "side.jpg": "SIDE_FILE",
    }


async def test_load_of_a_name_that_is_no_text(tmp_path):
    (tmp_path / os.fsdecode(b"\xff.jpg")).write_bytes(b"1")
    (item,) = [each async for each in source(tmp_path).items(None)]
    assert item.position == "%FF.jpg"
    assert (await item.load()).name == "�.jpg"


async def test_load_of_a_file_that_changes_is_refused(tmp_path, monkeypatch):
    fill(tmp_path, "a.jpg")
    monkeypatch.setattr(module, "_TRY_AGAIN_S", 0.0)
    plain = module.open_regular

    def opened(path: Path):
        with path.open("ab") as file:
            file.write(b"!")
        return plain(path)

    monkeypatch.setattr(module, "open_regular", opened)
    assert await read_all(source(tmp_path)) == {"a.jpg": "FILE_CHANGES"}


async def test_items_of_a_folder_that_is_away_can_be_tried_again(tmp_path):
    root = tmp_path / "disk"
    fill(root, "a.jpg", "b.jpg")
    opened = source(root)
    first = (await positions(opened))[0]
    root.rename(tmp_path / "away")
    root.mkdir()  # as a mount point without its disk
    with pytest.raises(SourceUnavailableError, match="another one"):
        await names(opened, first)
    root.rmdir()
    (tmp_path / "away").rename(root)
    assert await names(opened, first) == ["b.jpg"]


async def test_count_has_what_is_refused_and_passed_over(tmp_path):
    fill(tmp_path, "a.jpg", "b/c.png", "d.zip", "e.txt", "a.json", ".hidden.jpg")
    totals = await source(tmp_path).count()
    assert (totals.items, totals.passed_over) == (3, 1)


def test_source_of_no_folder_is_refused(tmp_path):
    with pytest.raises(SettingsError, match="give a folder"):
        source(tmp_path / "missing")
