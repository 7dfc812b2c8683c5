"""Reading folders of photographs: which classes are known, splits, and what is wrong with a file."""

from __future__ import annotations

import json
from pathlib import Path

import cv2
import numpy as np
import pytest

from training.photographs import PhotographError, read_photographs


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "classes.txt").write_text("vehicle\nbird\n")
    (tmp_path / "splits.json").write_text(json.dumps({"roads/images/a.png": ["test", "crossing"]}))
    for name in ("roads/images", "roads/labels", "unlabelled-dunes/images", "unlabelled-park/images"):
        (tmp_path / name).mkdir(parents=True)
    (tmp_path / "roads/README.md").write_text("# roads\nClasses labelled throughout: vehicle.\n")
    (tmp_path / "roads/labels/a.txt").write_text("0 0.5 0.5 0.2 0.4\n\n1 0.1 0.1 0.1 0.1\n-1 0.75 0.5 0.5 1\n")
    (tmp_path / "unlabelled-dunes/README.md").write_text("Nothing of the four classes seen: negatives.")
    (tmp_path / "unlabelled-park/README.md").write_text("A park with cars. No labels.")
    for name in ("roads/images/a.png", "unlabelled-dunes/images/b.png", "unlabelled-park/images/c.png"):
        assert cv2.imwrite(str(tmp_path / name), np.full((20, 40, 3), 90, np.uint8))
    return tmp_path


def test_boxes_are_in_pixels_and_ignored_regions_are_no_objects(folder: Path) -> None:
    (picture,) = read_photographs(folder).of("test")
    boxes, classes = picture.labels.boxes(40, 20)
    assert boxes.tolist() == pytest.approx(np.array([[16, 6, 24, 14], [2, 1, 6, 3]]))
    assert classes.tolist() == [0, 1]
    assert picture.labels.ignored(40, 20).tolist() == [[20, 0, 40, 20]]
    assert picture.pixels().shape == (20, 40, 3)
    assert (picture.name, picture.set_name, picture.place) == ("roads/images/a.png", "roads", "crossing")


def test_readme_decides_which_classes_are_known(folder: Path) -> None:
    photographs = read_photographs(folder)
    assert photographs.of("test")[0].known.tolist() == [True, False]
    assert {one.set_name: one.known.tolist() for one in photographs.of("unlabelled")} == {
        "unlabelled-dunes": [True, True],
        "unlabelled-park": [False, False],
    }


def test_sets_can_be_chosen_by_name(folder: Path) -> None:
    photographs = read_photographs(folder)
    assert [one.set_name for one in photographs.only(["roads"]).pictures] == ["roads"]
    with pytest.raises(PhotographError, match="no set rivers; it has roads, unlabelled-dunes"):
        photographs.only(["rivers"])
    with pytest.raises(PhotographError, match="no pictures of split val"):
        photographs.of("val")


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("0 0.5 0.5 0.2", "is not class, centre x"),
        ("car 0.5 0.5 0.2 0.2", "is not class, centre x"),
        ("0 0.5 0.5 0.2 0.2 0.9", "is not class, centre x"),
        ("2 0.5 0.5 0.2 0.2", "has class 2; classes.txt has 0 to 1"),
        ("-2 0.5 0.5 0.2 0.2", "has class -2"),
        ("0 0.5 0.5 0 0.2", "is no box"),
        ("0 nan 0.5 0.2 0.2", "is no box"),
        ("0 0.5 0.5 inf 0.2", "is no box"),
        ("0 16 6 24 14", "reaches beyond the picture"),
        ("0 0.95 0.5 0.4 0.2", "reaches beyond the picture"),
    ],
)
def test_a_wrong_label_is_named_with_file_and_line(folder: Path, line: str, expected: str) -> None:
    (folder / "roads/labels/a.txt").write_text(f"0 0.5 0.5 0.2 0.4\n{line}\n")
    with pytest.raises(PhotographError, match=rf"a\.txt, line 2: .*{expected}"):
        read_photographs(folder)


@pytest.mark.parametrize(
    ("file", "text", "expected"),
    [
        ("classes.txt", "", "holds nothing"),
        ("classes.txt", "bird\nbird\n", "write each class once"),
        ("classes.txt", "plane\nbird\n", r"README.md: vehicle is not in classes.txt \(plane, bird\)"),
        ("splits.json", "[", "is no JSON"),
        ("splits.json", "[]", "is no object"),
        ("splits.json", '{"roads/images/a.png": "test"}', "write .split, place."),
        ("splits.json", '{"roads/images/a.png": ["exam", "x"]}', "with split train, val, test"),
        ("splits.json", '{"../images/a.png": ["test", "x"]}', "is no picture; write set/images/file"),
        ("splits.json", '{"/images/a.png": ["test", "x"]}', "is no picture"),
        ("splits.json", '{"roads/images/z.png": ["test", "x"]}', "names roads/images/z.png, which is not in"),
        ("roads/README.md", "# roads", "does not say which classes are complete"),
    ],
)
def test_a_wrong_file_is_named(folder: Path, file: str, text: str, expected: str) -> None:
    (folder / file).write_text(text)
    with pytest.raises(PhotographError, match=expected):
        read_photographs(folder)


def test_missing_or_damaged_files_are_named(folder: Path) -> None:
    (folder / "roads/images/a.png").write_bytes(b"\x89PNG\r\n\x1a\n")
    (picture,) = read_photographs(folder).of("test")
    with pytest.raises(PhotographError, match=r"picture .*a\.png"):
        picture.pixels()
    (folder / "roads/labels/a.txt").write_bytes(b"\xff\xfe")
    with pytest.raises(PhotographError, match=r"a\.txt is no text in UTF-8"):
        read_photographs(folder)
    (folder / "roads/labels/a.txt").unlink()
    with pytest.raises(PhotographError, match=r"a\.txt cannot be read"):
        read_photographs(folder)


def test_a_set_without_pictures_is_named(folder: Path) -> None:
    (folder / "unlabelled-park/images/c.png").unlink()
    (folder / "unlabelled-park/images").rmdir()
    with pytest.raises(PhotographError, match=r"unlabelled-park.images is no folder"):
        read_photographs(folder)
