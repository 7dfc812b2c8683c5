"""Trains on photographs beside scenes, from the weights of an exported model; needs the train extra."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from tests.photograph_files import write_photographs
from training.export import fold_batch_norm, write_onnx
from training.mixture.selection import SelectionError
from training.net import ExportNet, Net
from training.net_settings import NetSettings
from training.pool import fill_pool
from training.starting_weights import StartingWeightsError, load_exported
from training.train import TrainingProgress, load_average, read_recipe, train
from training.train_settings import TrainSettings

SMALL = NetSettings(channels=(8, 8, 16, 16))


def quiet(_: TrainingProgress) -> None:
    """Ignores all progress."""


def varied_net() -> Net:
    """Returns a small net whose normalisations differ from those of a fresh one."""
    torch.manual_seed(3)
    net = Net(SMALL)
    with torch.no_grad():
        for _ in range(3):
            net(torch.rand(4, 3, 64, 64))
        # The exporter writes equal tensors once; those of a trained net differ.
        for head in net.heads:
            head.bias += torch.rand(8)
    return net.eval()


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> tuple[Net, Path]:
    """Exports a small net."""
    path = tmp_path_factory.mktemp("exported") / "model.onnx"
    original, folded = varied_net(), varied_net()
    fold_batch_norm(folded)
    write_onnx(folded, path, 64)
    return original, path


@pytest.fixture
def settings(tmp_path: Path, exported: tuple[Net, Path]) -> TrainSettings:
    """Returns settings of a run of four steps on scenes and photographs, which starts with exported weights."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("training.pool._SIZES", ((320, 240),))
        fill_pool(tmp_path / "pool", 1, lambda _: None)
    (tmp_path / "photographs").mkdir()
    write_photographs(tmp_path / "photographs")
    selection = tmp_path / "selection.yaml"
    selection.write_text("labelled: {town: 1}\nnegatives: {unlabelled-sand/images/d.png: []}\n")
    return TrainSettings(
        tmp_path,
        photographs=tmp_path / "photographs",
        selection=selection,
        start=exported[1],
        steps=4,
        batch=12,
        crop_px=64,
        warm_up_steps=2,
        cool_down_steps=2,
        first_scenes=1,
        scenes=1,
        checkpoint_every=2,
        renderers=0,
        threads=1,
        net=SMALL,
    )


def test_exported_weights_give_a_net_that_computes_the_same(exported: tuple[Net, Path]) -> None:
    original, path = exported
    torch.manual_seed(9)
    other = Net(SMALL)
    assert load_exported(other, path, [torch.rand(4, 3, 64, 64) for _ in range(2)]) == []
    assert other.training
    images = torch.rand(2, 3, 96, 64)
    with torch.no_grad():
        ours, theirs = (ExportNet(net.eval())(images) for net in (other, original))
    assert torch.allclose(ours, theirs, atol=2e-3)


def test_an_output_that_the_file_lacks_stays_random(exported: tuple[Net, Path], tmp_path: Path) -> None:
    import onnx

    model = onnx.load(exported[1])
    kept = [one for one in model.graph.initializer if "coarse_last" not in one.name and "heads.2" not in one.name]
    del model.graph.initializer[:]
    model.graph.initializer.extend(kept)
    path = tmp_path / "two-outputs.onnx"
    path.write_bytes(model.SerializeToString())
    lacking = load_exported(Net(SMALL), path, [torch.rand(1, 3, 64, 64)])
    assert lacking == ["coarse_last.0", "coarse_last.1", "heads.2"]


def test_a_file_of_another_net_is_refused(exported: tuple[Net, Path], tmp_path: Path) -> None:
    with pytest.raises(StartingWeightsError, match="another net"):
        load_exported(Net(NetSettings()), exported[1], [])
    (tmp_path / "text.onnx").write_text("no model")
    for name in ("text.onnx", "missing.onnx"):
        with pytest.raises(StartingWeightsError, match=name):
            load_exported(Net(SMALL), tmp_path / name, [])


def test_training_on_photographs_is_reproducible_and_resumes(settings: TrainSettings) -> None:
    checkpoint = train(settings, quiet)
    whole = load_average(checkpoint).state_dict()
    assert "--photographs FOLDER --selection training/selections/selection.yaml" in read_recipe(checkpoint).command
    checkpoint.unlink()

    def stop_after_two(state: TrainingProgress) -> None:
        if state.step == 3:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train(settings, stop_after_two)
    resumed = load_average(train(settings, quiet)).state_dict()
    assert all(torch.equal(whole[name], resumed[name]) for name in whole)


def test_photographs_that_do_not_fit_the_selection_stop_the_training_at_once(settings: TrainSettings) -> None:
    settings.selection.write_text("labelled: {village: 1}\nnegatives: {}\n")
    with pytest.raises(SelectionError, match="village"):
        train(replace(settings, steps=1), quiet)
