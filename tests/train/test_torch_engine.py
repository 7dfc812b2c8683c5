"""Compares the torch engine with ONNX Runtime on the CPU; its use of CUDA is not tested."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from hashlib import sha256
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
import yaml
from numpy.typing import NDArray
from onnx import numpy_helper
from torch import Tensor, nn

from detectors.card.card import InputCard, default_card_path, exported_program, read_card
from detectors.engines.cpu.onnxruntime import OnnxRuntimeEngine, to_input
from detectors.engines.gpu.torch import to_model_input
from detectors.engines.loaders import load_torch
from detectors.engines.port import EngineRequest
from detectors.errors import InferenceError, ModelLoadError
from detectors.model.loading import LoadRequest, load_model
from detectors.model.options import FrameView
from schemas.events import DetectOptions
from training.export import fold_batch_norm, write_program
from training.net import Net
from training.net_settings import NetSettings

SMALL = InputCard(width=64, height=32)


@pytest.fixture(scope="module")
def shipped(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the card of the shipped model, with the program that training exports from the same weights."""
    folder = tmp_path_factory.mktemp("shipped")
    given = default_card_path()
    card = read_card(given)
    net = Net(NetSettings()).eval()
    fold_batch_norm(net)
    weights = {one.name: torch.from_numpy(numpy_helper.to_array(one).copy()) for one in _initializers(given, card.file)}
    net.load_state_dict({name: weights[f"net.{name}"] for name in net.state_dict()})
    write_program(net, folder / "model.pt2", card.input.width)
    (folder / card.file).symlink_to(given.parent / card.file)
    fields = yaml.safe_load(given.read_text())
    fields["files"] = {"model.pt2": sha256((folder / "model.pt2").read_bytes()).hexdigest()}
    (folder / "model.yaml").write_text(yaml.safe_dump(fields))
    return folder / "model.yaml"


def _initializers(path: Path, name: str) -> list[onnx.TensorProto]:
    return list(onnx.load(path.parent / name).graph.initializer)


def request_for(path: Path, precision: str = "f32", batch: int = 0) -> EngineRequest:
    card = read_card(path)
    program = exported_program(card, path)
    return EngineRequest(path.parent / card.file, card.input, 2, precision, batch=batch, exported=program)  # type: ignore[arg-type]


def scene(count: int, card: InputCard) -> NDArray[np.uint8]:
    """Return tiles of a plain ground with a few rectangles."""
    rng = np.random.default_rng(5)
    made = np.full((count, card.height, card.width, 3), 90, np.uint8)
    for tile in made:
        for _ in range(12):
            x, y = rng.integers(0, card.width - 70), rng.integers(0, card.height - 70)
            tile[y : y + rng.integers(8, 60), x : x + rng.integers(8, 60)] = rng.integers(0, 256, 3)
    return made


def test_shipped_model_has_the_outputs_of_onnx_runtime(shipped: Path) -> None:
    wanted = request_for(shipped, batch=2)
    engine = load_torch(wanted)
    assert engine.batch_size == 2
    for count in (1, 2, 3):
        made = scene(count, wanted.input)
        (expected,), (found,) = OnnxRuntimeEngine(wanted).run(made), engine.run(made)
        assert found.dtype == np.float32
        assert found.shape == expected.shape
        # Boxes are pixels up to 640: of those 1e-4 is less than float32 keeps.
        assert np.abs(expected - found)[:, 4:].max() < 1e-4
        assert np.allclose(expected, found, rtol=1e-5, atol=1e-4)
    engine.close()


@pytest.mark.parametrize("precision", ["f16", "bf16"])
def test_half_precision_stays_close(shipped: Path, precision: str) -> None:
    made = scene(1, read_card(shipped).input)
    (exact,), (found,) = (load_torch(request_for(shipped, kind)).run(made) for kind in ("f32", precision))
    scores = np.abs(exact - found)[:, 4:]
    assert 0 < scores.max() < (0.02 if precision == "f16" else 0.2)
    seen = exact[0, 4:].max(axis=0) > 0.25
    assert seen.any()
    assert np.abs(exact - found)[0, :4, seen].max() < (0.5 if precision == "f16" else 4.0)


def test_a_model_is_loaded_on_torch_by_its_card_and_finds_what_onnx_runtime_finds(shipped: Path) -> None:
    (picture,) = scene(1, read_card(shipped).input)
    found = []
    for engine in ("torch", "onnxruntime"):
        model = load_model(LoadRequest(shipped, engine, threads=2, precision="f32", fallback=False))  # type: ignore[arg-type]
        assert model.engine.name == engine
        with_defaults = model.resolved(DetectOptions(confidence=0.1), FrameView(picture.shape[1], picture.shape[0]))
        plan = model.plan(FrameView(picture.shape[1], picture.shape[0]), with_defaults)
        candidates = model.candidates(model.infer(model.cut(picture, plan)), plan, 0, with_defaults)
        found.append(model.merge(candidates, plan, with_defaults))
        model.close()
    one, other = found
    assert len(one.boxes) == len(other.boxes) > 0
    assert np.abs(one.boxes - other.boxes).max() < 1e-2
    assert one.classes.tolist() == other.classes.tolist()


class Squares(nn.Module):
    """Computes the means of each tile's channels and their squares, with or without the sizes as an input."""

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        means = images.mean(dim=(2, 3))
        return means, means * means


class Scaled(nn.Module):
    def forward(self, images: Tensor, orig_target_sizes: Tensor) -> Tensor:
        return images.mean(dim=(2, 3)) * orig_target_sizes[:, :1].float()


def exported(path: Path, module: nn.Module, batch: int | None, *others: Tensor) -> EngineRequest:
    """Export ``module`` for 64 × 32 pixels, for ``batch`` tiles or any number of them."""
    examples = (torch.zeros(batch or 2, 3, 32, 64), *others)
    dims = None if batch else tuple({0: torch.export.Dim("batch")} for _ in examples)
    torch.export.save(torch.export.export(module.eval(), examples, dynamic_shapes=dims), path)
    return EngineRequest(path.with_suffix(".onnx"), SMALL, 1, "f32", batch=4, exported=path)


def tiles(count: int) -> NDArray[np.uint8]:
    return np.random.default_rng(count).integers(0, 256, (count, 32, 64, 3), np.uint8)


@pytest.mark.parametrize(("batch", "size"), [(None, 4), (1, 1), (3, 3)])
def test_any_number_of_tiles_runs_on_open_and_fixed_batches(tmp_path: Path, batch: int | None, size: int) -> None:
    engine = load_torch(exported(tmp_path / "model.pt2", Squares(), batch))
    assert (engine.batch_size, engine.parallel) == (size, 1)
    made = tiles(11)
    expected = to_input(made, SMALL).mean(axis=(2, 3))
    means, squares = engine.run(made)
    assert np.abs(means - expected).max() < 1e-5
    assert np.abs(squares - expected**2).max() < 1e-5
    with ThreadPoolExecutor(4) as pool:
        for at, (part, _) in enumerate(pool.map(lambda at: engine.run(made[at : at + 3]), range(8))):
            assert np.abs(part - expected[at : at + 3]).max() < 1e-5


def test_inputs_beside_the_picture_are_given_by_name(tmp_path: Path) -> None:
    wanted = exported(tmp_path / "model.pt2", Scaled(), None, torch.zeros(2, 2, dtype=torch.int64))
    engine = load_torch(replace(wanted, constants={"orig_target_sizes": np.array([64, 32], np.int64)}))
    (found,) = engine.run(tiles(5))
    assert np.abs(found - 64 * to_input(tiles(5), SMALL).mean(axis=(2, 3))).max() < 1e-3


@pytest.mark.parametrize("channels", ["rgb", "bgr"])
def test_preprocessing_in_torch_is_that_of_other_engines(channels: str) -> None:
    card = InputCard(width=64, height=32, channels=channels, mean=(0.1, 0.2, 0.3), std=(0.5, 0.6, 0.7))  # type: ignore[arg-type]
    made = to_model_input(torch.from_numpy(tiles(3)), card)
    assert np.abs(made.numpy() - to_input(tiles(3), card)).max() < 1e-6


def test_a_failing_run_is_an_inference_error_and_the_engine_lives_on(tmp_path: Path) -> None:
    engine = load_torch(exported(tmp_path / "model.pt2", Squares(), None))
    for _ in range(3):
        with pytest.raises(InferenceError, match=r"tiles are \(16, 16, 3\)"):
            engine.run(np.zeros((1, 16, 16, 3), np.uint8))
    assert engine.run(tiles(2))[0].shape[0] == 2


def _other_size(path: Path) -> EngineRequest:
    return replace(exported(path, Squares(), None), input=InputCard(width=32, height=32))


def _damaged(path: Path) -> EngineRequest:
    wanted = exported(path, Squares(), None)
    path.write_bytes(path.read_bytes()[:200])
    return wanted


def _unknown_input(path: Path) -> EngineRequest:
    return exported(path, Scaled(), None, torch.zeros(2, 2, dtype=torch.int64))


@pytest.mark.parametrize(
    ("make", "why"),
    [
        (_damaged, r"torch .* cannot load .*model\.pt2"),
        (_other_size, r"takes input \[None, 3, 32, 64\], the card says \(N, 3, 32, 32\)"),
        (_unknown_input, r"takes 2 inputs \(images, orig_target_sizes\)"),
    ],
)
def test_load_torch_unusable_model_raises_model_load_error(
    tmp_path: Path, make: Callable[[Path], EngineRequest], why: str
) -> None:
    with pytest.raises(ModelLoadError, match=why):
        load_torch(make(tmp_path / "model.pt2"))
