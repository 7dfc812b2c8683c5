"""Crops of photographs: which classes are known, what is left out, and that hard negatives come again."""

import numpy as np
import pytest

from training.crops import IGNORED
from training.mixture.photo_crops import NegativeWindow, PhotoCrops
from training.mixture.selection import PhotoSelection, SelectionError
from training.mixture.windows import Window
from training.photographs import Photographs

SELECTION = PhotoSelection(
    labelled={"town": 3.0, "port": 1.0},
    negatives={"unlabelled-sand/images/d.png": ((0, 0, 20, 20),)},
    left_out={"town/images/a.png": ((0, 0, 200, 160),)},
)


@pytest.fixture
def crops(photographs: Photographs) -> PhotoCrops:
    """Returns crops of both sets, three of the town for one of the port, with regions left out."""
    return PhotoCrops(photographs, SELECTION)


def test_a_labelled_crop_has_the_known_classes_of_its_set(crops: PhotoCrops) -> None:
    kinds = [crops.labelled(np.random.default_rng(seed), 64).known.tolist() for seed in range(120)]
    town, port = [True, False, False, False], [False, True, True, False]
    assert all(kind in (town, port) for kind in kinds)
    assert 60 < kinds.count(town) < 115


def test_objects_get_sizes_over_the_whole_range(crops: PhotoCrops) -> None:
    longest = [
        float((crop.boxes[:, 2:] - crop.boxes[:, :2])[crop.labels != IGNORED].max(initial=0))
        for crop in (crops.labelled(np.random.default_rng(seed), 320).crop for seed in range(150))
    ]
    seen = [size for size in longest if size > 0]
    assert len(seen) > 90
    assert min(seen) < 20
    assert max(seen) > 120


def test_a_region_left_out_is_ignored_in_every_crop_of_its_picture(crops: PhotoCrops) -> None:
    for seed in range(20):
        crop = crops.labelled(np.random.default_rng(seed), 64)
        if crop.known[0]:
            assert IGNORED in crop.crop.labels


def test_negatives_have_no_objects_and_half_of_them_are_labelled_photographs(crops: PhotoCrops) -> None:
    pictures = []
    for seed in range(60):
        crop, where = crops.negative(np.random.default_rng(seed), 64)
        assert (crop.crop.labels == IGNORED).all()
        assert crop.known.all() == (where.picture == 0)
        pictures.append(where.picture)
    assert 15 < pictures.count(0) < 45
    assert set(pictures) == {0, 1, 2}


def test_a_high_score_makes_a_negative_come_again(crops: PhotoCrops) -> None:
    hard = NegativeWindow(0, Window(100.0, 60.0, 40.0))
    crops.remember(0.9, hard)

    def near() -> int:
        windows = [crops.negative(np.random.default_rng(seed), 64)[1].window for seed in range(60)]
        return sum(abs(one.left - 100) < 8 and abs(one.top - 60) < 8 and 30 < one.side < 52 for one in windows)

    assert near() < 10
    crops.settle()
    assert near() > 20


def test_memory_is_bounded_and_keeps_the_highest_scores(crops: PhotoCrops) -> None:
    for number in range(1000):
        crops.remember(1.0 if number == 0 else 0.001, NegativeWindow(0, Window(float(number), 0.0, 40.0)))
    crops.settle()
    rows = crops.memory()["hard"]
    assert len(rows) <= 300
    assert rows[0][2] == 0.0


def test_memory_goes_into_a_checkpoint_and_comes_back(crops: PhotoCrops, photographs: Photographs) -> None:
    crops.remember(0.5, NegativeWindow(0, Window(1.0, 2.0, 3.0)))
    crops.settle()
    crops.remember(0.25, NegativeWindow(0, Window(4.0, 5.0, 6.0)))
    other = PhotoCrops(photographs, SELECTION)
    other.restore(crops.memory())
    assert other.memory() == crops.memory() == {"hard": [(0.5, 0, 1.0, 2.0, 3.0)], "noted": [(0.25, 0, 4.0, 5.0, 6.0)]}


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"labelled": {"village": 1.0}}, "village"),
        ({"negatives": {"port/images/c.png": ()}}, "no unlabelled picture"),
        ({"negatives": {"unlabelled-sand/images/x.png": ()}}, r"x\.png"),
    ],
)
def test_a_selection_that_does_not_fit_the_folder_is_refused(
    photographs: Photographs, change: dict[str, object], words: str
) -> None:
    with pytest.raises(SelectionError, match=words):
        PhotoCrops(photographs, SELECTION.model_copy(update=change))
