"""The list of pictures in a folder."""

from __future__ import annotations

from pathlib import Path

import pytest

from ingest.edge.folder.listing import FileState, is_wanted, list_pictures

SUFFIXES = (".jpg", ".png")


def is_new(path: Path, state: FileState) -> bool:
    return path.name != "taken.jpg"


def test_list_pictures_finds_new_ones_in_all_folders(tmp_path: Path) -> None:
    (tmp_path / "a" / "b").mkdir(parents=True)
    (tmp_path / ".hidden").mkdir()
    for name in ("1.jpg", "a/2.JPG", "a/b/3.png", "a/taken.jpg", "a/notes.txt", ".4.jpg", ".hidden/5.jpg", "6.json"):
        (tmp_path / name).write_bytes(b"x")
    (tmp_path / "link.jpg").symlink_to(tmp_path / "1.jpg")
    (tmp_path / "loop").symlink_to(tmp_path)
    found = list_pictures(tmp_path, SUFFIXES, is_new)
    assert sorted(str(path.relative_to(tmp_path)) for path in found.pictures) == ["1.jpg", "a/2.JPG", "a/b/3.png"]
    assert {path.name for path in found.folders} == {tmp_path.name, "a", "b"}
    assert found.pictures[tmp_path / "1.jpg"] == FileState.of((tmp_path / "1.jpg").stat())


def test_list_pictures_reports_a_folder_below_the_deepest(tmp_path: Path) -> None:
    deep = tmp_path.joinpath(*["d"] * 40)
    deep.mkdir(parents=True)
    (deep / "1.jpg").write_bytes(b"x")
    found = list_pictures(tmp_path, SUFFIXES, is_new)
    assert found.pictures == {}
    assert found.unreadable == f"{tmp_path}{'/d' * 33} is not looked into: it is more than 32 folders deep"


def test_missing_folder_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        list_pictures(tmp_path / "away", SUFFIXES, is_new)


@pytest.mark.parametrize(("name", "wanted"), [("a.JPG", True), (".a.jpg", False), ("a.jpg.part", False), ("a", False)])
def test_is_wanted_by_name(name: str, wanted: bool) -> None:
    assert is_wanted(name, SUFFIXES) is wanted
