"""Selections: the one that ships is read, and mistakes are named."""

from pathlib import Path

import pytest

from training.mixture.selection import SelectionError, read_selection
from training.train_settings import SELECTION


def test_the_shipped_selection_names_no_picture_of_the_readme_example() -> None:
    selection = read_selection(SELECTION)
    assert set(selection.labelled) == {"kit-ais", "minsk"}
    assert not any("DJI_0027" in name or "DJI_0028" in name or "DJI_0030" in name for name in selection.negatives)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("labelled: {}\nnegatives: {}", "labelled"),
        ("labelled: {a: 0}\nnegatives: {}", r"labelled\.a"),
        ("labelled: {a: .inf}\nnegatives: {}", r"labelled\.a"),
        ("labelled: {a: 1}\nnegatives: {b: [[1, 2, 3]]}", r"negatives\.b"),
        ("labelled: {a: 1}\nnegatives: {}\nmore: 1", "more"),
        ("[", "cannot be read"),
    ],
)
def test_a_mistake_is_named(tmp_path: Path, text: str, words: str) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text(text)
    with pytest.raises(SelectionError, match=words) as raised:
        read_selection(path)
    assert str(path) in str(raised.value)
