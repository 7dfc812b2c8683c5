"""Batches: their shapes in turn, their mixture, and that the same step gives the same crops."""

from pathlib import Path

import numpy as np
import pytest

from training.mixture.batches import batch_shape
from training.mixture.source import CropSource
from training.photographs import Photographs
from training.pool import ScenePool, fill_pool
from training.train_settings import TrainSettings


@pytest.fixture(scope="module")
def pool(tmp_path_factory: pytest.TempPathFactory) -> ScenePool:
    """Renders two small scenes."""
    folder = tmp_path_factory.mktemp("pool")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("training.pool._SIZES", ((320, 240),))
        fill_pool(folder, 2, lambda _: None)
        pool = ScenePool(folder)
        pool.grow_to(2, lambda: None)
    return pool


@pytest.fixture
def selection(tmp_path: Path) -> Path:
    """Writes a selection of the test's photographs."""
    path = tmp_path / "selection.yaml"
    path.write_text("labelled: {town: 1, port: 1}\nnegatives: {unlabelled-sand/images/d.png: []}\n")
    return path


def crops_of(photographs: Path | None, selection: Path) -> TrainSettings:
    return TrainSettings(Path("unused"), photographs, selection, seed=1, crop_px=80, batch=12)


def test_batches_have_about_as_many_pixels_at_each_side() -> None:
    shapes = [batch_shape(step, 320, 12) for step in range(4)]
    assert shapes == [(256, 18), (320, 12), (416, 7), (256, 18)]


def test_a_batch_mixes_labelled_photographs_negatives_and_scenes(
    pool: ScenePool, photographs: Photographs, selection: Path
) -> None:
    source = CropSource(crops_of(photographs.folder, selection), pool)
    batch = source.batch(1)
    assert len(batch.crops) == 12
    assert {crop.image.shape for crop in batch.crops} == {(80, 80, 3)}
    assert [bool(row.all()) for row in batch.known][:4] == [False] * 4
    assert batch.known[7:].all()
    assert sorted(batch.negatives) == [4, 5, 6]


def test_the_same_step_gives_the_same_batch_and_memory_changes_it(
    pool: ScenePool, photographs: Photographs, selection: Path
) -> None:
    settings = crops_of(photographs.folder, selection)
    first, second = CropSource(settings, pool), CropSource(settings, pool)
    batch = first.batch(4)
    assert all(
        np.array_equal(one.image, other.image) for one, other in zip(batch.crops, second.batch(4).crops, strict=True)
    )
    first.learn(batch, np.full(12, 0.9, np.float32))
    first.settle()
    assert any(first.batch(step).negatives != second.batch(step).negatives for step in range(5, 9))


def test_without_photographs_every_crop_is_drawn(pool: ScenePool, selection: Path) -> None:
    source = CropSource(crops_of(None, selection), pool)
    batch = source.batch(0)
    assert len(batch.crops) == 18
    assert batch.known.all()
    assert not batch.negatives
    source.learn(batch, np.zeros(18, np.float32))
    source.settle()
