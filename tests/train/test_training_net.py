"""Checks the net, its loss and its export; needs the train extra."""

from dataclasses import replace
from pathlib import Path
from zipfile import ZipFile

import numpy as np
import pytest
import torch

from detectors.card.card import exported_program, read_card, verified_model_file
from tests.paths import ROOT
from training.card import Thresholds
from training.crops import IGNORED, Crop, augment, cut_boxes
from training.export import ExportSettings, export
from training.loss import Targets, assign, complete_iou, detection_loss
from training.net import STRIDES, ExportNet, Net, decode_raw
from training.net_settings import NetSettings
from training.pool import ScenePool, fill_pool
from training.train import TrainingError, TrainingProgress, load_average, train
from training.train_settings import TrainSettings, learning_rate, pool_size

SMALL = NetSettings(channels=(8, 8, 16, 16))


@pytest.fixture(scope="module")
def pool(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Renders two small scenes once."""
    folder = tmp_path_factory.mktemp("pool")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("training.pool._SIZES", ((320, 240),))
        fill_pool(folder, 2, lambda _: None)
    return folder


@pytest.fixture
def folder(pool: Path, tmp_path: Path) -> Path:
    """Makes a run's folder with a full pool."""
    (tmp_path / "pool").symlink_to(pool)
    return tmp_path


def tiny(folder: Path, steps: int) -> TrainSettings:
    return TrainSettings(
        folder,
        steps=steps,
        batch=2,
        crop_px=64,
        warm_up_steps=2,
        cool_down_steps=2,
        first_scenes=1,
        scenes=2,
        steps_per_scene=2,
        checkpoint_every=2,
        renderers=0,
        threads=1,
        net=SMALL,
    )


def quiet(_: TrainingProgress) -> None:
    """Ignores all progress."""


def targets(*rows: tuple[tuple[float, float, float, float], int]) -> Targets:
    boxes, labels = torch.tensor([[row[0] for row in rows]]), torch.tensor([[row[1] for row in rows]])
    return Targets(boxes, labels, torch.ones(1, 4, dtype=torch.bool))


def test_output_has_the_yolov8_layout() -> None:
    net = ExportNet(Net(SMALL)).eval()
    out = net(torch.rand(2, 3, 64, 96))
    cells = sum((64 // stride) * (96 // stride) for stride in STRIDES)
    assert out.shape == (2, 8, cells)
    assert (out[:, 4:] < 0.05).all(), "a fresh net believes that objects are rare"
    assert (out[:, 2:4] > 0).all()


def test_assign_small_objects_to_fine_cells_and_large_ones_to_coarse_cells() -> None:
    rows = targets(((10, 10, 18, 18), 2), ((20, 20, 60, 60), 0), ((40, 40, 190, 180), 1))
    owner = assign(rows, 192, 192).owner[0]
    fine, middle, coarse = owner.split([48 * 48, 24 * 24, 12 * 12])
    assert fine.reshape(48, 48)[3, 3] == 0
    assert set(fine.unique().tolist()) == {-1, 0}
    assert middle.reshape(24, 24)[4, 4] == middle.reshape(24, 24)[5, 5] == 1
    assert set(middle.unique().tolist()) == {-1, 1}
    assert coarse.reshape(12, 12)[6, 7] == 2
    assert set(coarse.unique().tolist()) == {-1, 2}


def test_a_class_that_is_not_labelled_throughout_costs_nothing() -> None:
    torch.manual_seed(0)
    raw = Net(SMALL)(torch.rand(1, 3, 64, 64))
    with torch.no_grad():
        for level in raw:
            level[:, 4 + 2] += 8.0
    empty = torch.full((1, 1), -2)
    seen, unknown = (
        detection_loss(raw, Targets(torch.zeros(1, 1, 4), empty, torch.tensor([[True, True, known, True]])), (64, 64))
        for known in (True, False)
    )
    assert unknown.classes < 0.01 * seen.classes


def test_an_object_thinner_than_a_cell_still_owns_one() -> None:
    owner = assign(targets(((8.2, 8.2, 9.0, 30.0), 1)), 64, 64).owner[0]
    assert (owner >= 0).sum() >= 1


def test_assign_ignores_cells_of_a_cut_object() -> None:
    assignment = assign(targets(((0, 0, 20, 20), IGNORED)), 64, 64)
    assert (assignment.owner == -1).all()
    assert assignment.ignored[0, 0]
    assert not assignment.ignored[0, 255]


def test_complete_iou_of_equal_boxes_is_one_and_falls_with_distance() -> None:
    box = torch.tensor([[0.0, 0.0, 10.0, 10.0]])
    iou, ciou = complete_iou(box, box)
    assert iou.item() == pytest.approx(1.0, abs=1e-5)
    assert ciou.item() == pytest.approx(1.0, abs=1e-5)
    near, far = (complete_iou(box, box + shift)[1].item() for shift in (12.0, 40.0))
    assert far < near < 0


def test_the_loss_falls_when_the_net_is_fitted_to_one_picture() -> None:
    torch.manual_seed(0)
    net = Net(SMALL)
    image = torch.zeros(1, 3, 64, 64)
    image[:, :, 20:36, 24:40] = 1.0
    truth = targets(((24, 20, 40, 36), 3))
    optimiser = torch.optim.AdamW(net.parameters(), 1e-2)
    losses = []
    for _ in range(60):
        loss = detection_loss(net(image), truth, (64, 64))
        optimiser.zero_grad()
        loss.total.backward()
        optimiser.step()
        losses.append(float(loss.total.detach()))
    assert losses[-1] < 0.3 * losses[0]
    boxes, logits = decode_raw(net(image))
    best = int(logits[0].amax(dim=1).argmax())
    assert int(logits[0, best].argmax()) == 3
    assert complete_iou(boxes[0, best : best + 1], truth.boxes[0])[0].item() > 0.6


def test_a_batch_without_objects_has_a_finite_loss() -> None:
    empty = Targets(torch.zeros(1, 1, 4), torch.full((1, 1), -2), torch.ones(1, 4, dtype=torch.bool))
    loss = detection_loss(Net(SMALL)(torch.rand(1, 3, 64, 64)), empty, (64, 64))
    assert torch.isfinite(loss.total)
    assert loss.boxes == 0.0


def test_learning_rate_rises_stays_and_falls_and_the_pool_grows() -> None:
    settings = TrainSettings(
        Path("unused"),
        steps=1000,
        warm_up_steps=100,
        cool_down_steps=200,
        first_scenes=10,
        scenes=50,
        steps_per_scene=8,
    )
    rates = [learning_rate(settings, step) / settings.learning_rate for step in range(1000)]
    assert rates[0] == pytest.approx(0.01)
    assert set(rates[99:800]) == {1.0}
    assert rates[850] == pytest.approx(0.855, abs=0.001)
    assert rates[900] == pytest.approx(0.505)
    assert rates[999] < 0.02
    assert [pool_size(settings, step) for step in (0, 80, 500, 999)] == [10, 20, 50, 50]


def test_steps_may_change_until_the_learning_rate_falls(folder: Path) -> None:
    train(tiny(folder, 3), quiet)
    with pytest.raises(TrainingError, match="steps is 9"):
        train(tiny(folder, 9), quiet)


def test_augmented_boxes_follow_the_picture() -> None:
    image = np.zeros((32, 32, 3), np.uint8)
    image[4:10, 20:30] = 255
    crop = Crop(image, np.array([(20, 4, 30, 10)], np.float32), np.array([0]))
    for seed in range(20):
        turned = augment(crop, np.random.default_rng(seed))
        left, top, right, bottom = turned.boxes[0].astype(int)
        bright = turned.image.min(axis=2) > 100
        assert bright[top:bottom, left:right].all()
        assert bright.sum() == 60


def test_boxes_cut_by_a_crop_are_kept_ignored_or_dropped() -> None:
    boxes = np.array([(-4, 0, 6, 10), (-7, 0, 3, 10), (-9, 0, 1, 10), (70, 0, 80, 10)], np.float32)
    kept, labels = cut_boxes(boxes, np.array([0, 1, 2, 3]), 64)
    assert labels.tolist() == [0, IGNORED]
    assert kept.tolist() == [[0, 0, 6, 10], [0, 0, 3, 10]]


def test_training_is_reproducible_and_resumes_where_it_stopped(folder: Path) -> None:
    whole = load_average(train(tiny(folder, 4), quiet)).state_dict()
    (folder / "checkpoint.pt").unlink()

    def stop_after_two(state: TrainingProgress) -> None:
        if state.step == 3:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train(tiny(folder, 4), stop_after_two)
    resumed = load_average(train(tiny(folder, 4), quiet)).state_dict()
    assert all(torch.equal(whole[name], resumed[name]) for name in whole)


def test_a_checkpoint_of_other_settings_is_refused(folder: Path) -> None:
    train(tiny(folder, 1), quiet)
    with pytest.raises(TrainingError, match="other settings"):
        train(replace(tiny(folder, 1), seed=7), quiet)
    with pytest.raises(TrainingError, match="no checkpoint"):
        load_average(folder / "nothing.pt")


def test_export_equals_the_net_and_writes_the_card(folder: Path) -> None:
    checkpoint = train(tiny(folder, 2), quiet)
    done = export(ExportSettings(checkpoint, models=folder / "models", input_px=128), Thresholds(confidence=0.4))
    assert done.largest_difference < 2e-3
    assert done.size_bytes == done.model.stat().st_size < 8_000_000
    assert str(folder).encode() not in done.model.read_bytes()
    with ZipFile(done.program) as archive:
        assert not any(str(ROOT).encode() in archive.read(name) for name in archive.namelist())
    card = read_card(done.card)
    assert verified_model_file(card, done.card) == done.model
    assert exported_program(card, done.card) == done.program
    assert done.card.read_text().startswith("name: standgale-small\nversion: 1.1.0\nfile: model.onnx\nsha256: ")
    assert "confidence: 0.4" in done.card.read_text()
    assert "seeds: 1000000 to 1000001" in done.card.read_text()


def test_scene_pool_crop_of_empty_folder_raises(tmp_path: Path) -> None:
    with pytest.raises(Exception, match="empty: render scenes"):
        ScenePool(tmp_path).crop(np.random.default_rng(0), 64)
