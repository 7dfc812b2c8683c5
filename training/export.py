"""Exports a checkpoint as ONNX and as a torch program, both checked against the original, with its model card."""

import argparse
import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import onnx
import onnxruntime
import torch
from torch import nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from schemas.errors import StandgaleError
from training.card import ModelFile, Thresholds, write_training_card
from training.net import ConvBlock, ExportNet, Net
from training.scenes.spec import CLASS_NAMES
from training.train import load_average, read_recipe

# Boxes are hundreds of pixels and scores at most one: this is well below what moves a decision.
_TOLERANCE = 2e-3
_OPSET = 18


Runner = Callable[[npt.NDArray[np.float32]], npt.NDArray[np.float32]]
"""Runs an exported file: images (N, 3, H, W) to its one output."""


class ExportError(StandgaleError):
    """Says that the exported file computes other outputs than the net."""


@dataclass(frozen=True)
class ExportSettings:
    """Says what to export, into models/<name>/<version>/ below `models`."""

    checkpoint: Path
    models: Path = Path("models")
    name: str = "standgale-small"
    version: str = "1.1.0"
    input_px: int = 640


@dataclass(frozen=True)
class Exported:
    """Names the written files, with the ONNX file's size and the largest difference of both from the net."""

    model: Path
    program: Path
    card: Path
    size_bytes: int
    largest_difference: float


class _FusedBlock(nn.Module):
    """Computes a ConvBlock whose normalisation is folded into its weights."""

    def __init__(self, block: ConvBlock) -> None:
        super().__init__()
        self.conv = fuse_conv_bn_eval(block.conv, block.norm)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.relu(self.conv(x))


def fold_batch_norm(module: nn.Module) -> None:
    """Replace every ConvBlock below `module`, in place, by its fused form."""
    for name, child in list(module.named_children()):
        if isinstance(child, ConvBlock):
            setattr(module, name, _FusedBlock(child))
        else:
            fold_batch_norm(child)


def write_program(net: Net, path: Path, input_px: int) -> None:
    """Export for the torch engine: an ExportedProgram with dynamic batch, height and width."""
    example = torch.zeros(2, 3, input_px, input_px)
    program = torch.export.export(ExportNet(net).eval(), (example,), dynamic_shapes={"images": _free_axes()})
    program.example_inputs = None
    for node in program.graph.nodes:
        # Source lines of the machine that exported it: no reader of the file needs them.
        node.meta.pop("stack_trace", None)
    path.parent.mkdir(parents=True, exist_ok=True)
    torch.export.save(program, path)


def _free_axes() -> dict[int, object]:
    """Return the input's axes that stay open: tiles, and rows and columns in steps of the coarsest stride."""
    return {
        0: torch.export.Dim("batch"),
        2: 16 * torch.export.Dim("rows", min=2, max=512),
        3: 16 * torch.export.Dim("cols", min=2, max=512),
    }


def write_onnx(net: Net, path: Path, input_px: int) -> None:
    """Export with dynamic batch, height and width, and the metadata that readers of the layout expect."""
    names = dict(enumerate(CLASS_NAMES))
    example = torch.zeros(2, 3, input_px, input_px)
    program = torch.onnx.export(
        ExportNet(net).eval(),
        (example,),
        input_names=["images"],
        output_names=["output0"],
        dynamic_shapes={"images": _free_axes()},
        opset_version=_OPSET,
        dynamo=True,
        verbose=False,
    )
    if program is None:
        raise ExportError("the ONNX exporter returned no program: check the versions of torch and onnxscript")
    model = program.model_proto
    metadata = {
        "description": "Standgale detector of small objects in aerial images",
        "license": "Apache-2.0",
        "stride": "16",
        "task": "detect",
        "batch": "1",
        "imgsz": str([input_px, input_px]),
        "names": str(names),
        "channels": "3",
        "end2end": "False",
    }
    onnx.helper.set_model_props(model, metadata)
    model.producer_name = "standgale"
    for node in model.graph.node:
        # The exporter notes source lines of its machine, which no reader of the file needs.
        del node.metadata_props[:]
        node.doc_string = ""
    del model.graph.metadata_props[:]
    for value in (*model.graph.value_info, *model.graph.input, *model.graph.output, *model.graph.initializer):
        del value.metadata_props[:]
    onnx.checker.check_model(model, full_check=True)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(model.SerializeToString())


def onnx_runner(path: Path) -> Runner:
    """Return what runs the ONNX file at `path`."""
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    return lambda images: session.run(["output0"], {"images": images})[0]


def program_runner(path: Path) -> Runner:
    """Return what runs the torch program at `path`."""
    module = torch.export.load(path).module()

    def run(images: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
        with torch.no_grad():
            made: npt.NDArray[np.float32] = module(torch.from_numpy(images)).numpy()
        return made

    return run


def largest_difference(net: Net, path: Path, run: Runner, input_px: int) -> float:
    """Return the largest absolute difference between `run`, which runs the file at `path`, and the net.

    Over several shapes and batches of random pictures. Raises ExportError when the shapes differ.
    """
    reference = ExportNet(net).eval()
    rng = np.random.default_rng(5)
    worst = 0.0
    for batch, rows, cols in ((1, input_px, input_px), (3, 256, 320), (2, 480, 640)):
        images = rng.random((batch, 3, rows, cols), dtype=np.float32)
        ours = run(images)
        with torch.no_grad():
            theirs = reference(torch.from_numpy(images)).numpy()
        if ours.shape != theirs.shape:
            raise ExportError(f"{path} gives shape {ours.shape}, the net {theirs.shape}: the export is broken")
        worst = max(worst, float(np.abs(ours - theirs).max()))
    return worst


def export(settings: ExportSettings, thresholds: Thresholds) -> Exported:
    """Write model.onnx, model.pt2 and model.yaml.

    Raises ExportError when a file's output differs from the net's by more than 0.002.
    """
    original = load_average(settings.checkpoint)
    fused = load_average(settings.checkpoint)
    fold_batch_norm(fused)
    folder = settings.models / settings.name / settings.version
    path, program = folder / "model.onnx", folder / "model.pt2"
    write_onnx(fused, path, settings.input_px)
    write_program(fused, program, settings.input_px)
    worst = 0.0
    for file, run in ((path, onnx_runner(path)), (program, program_runner(program))):
        difference = largest_difference(original, file, run, settings.input_px)
        if not difference <= _TOLERANCE:
            raise ExportError(
                f"{file} differs from the net by {difference:.2g}, more than {_TOLERANCE}: do not ship it"
            )
        worst = max(worst, difference)
    model = ModelFile(
        settings.name, settings.version, _sha256(path), settings.input_px, {program.name: _sha256(program)}
    )
    written = write_training_card(folder / "model.yaml", model, thresholds, read_recipe(settings.checkpoint))
    return Exported(path, program, written, path.stat().st_size, worst)


def _sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def main() -> None:
    """Run the command line: python -m training.export --checkpoint runs/small/checkpoint.pt."""
    parser = argparse.ArgumentParser(description="Export a checkpoint to ONNX with its model card.")
    default = ExportSettings(Path("runs/small/checkpoint.pt"))
    parser.add_argument("--checkpoint", type=Path, default=default.checkpoint)
    parser.add_argument("--models", type=Path, default=default.models)
    parser.add_argument("--name", default=default.name)
    parser.add_argument("--version", default=default.version)
    parser.add_argument("--confidence", type=float, default=Thresholds().confidence)
    arguments = vars(parser.parse_args())
    thresholds = Thresholds(confidence=arguments.pop("confidence"))
    done = export(ExportSettings(**arguments), thresholds)
    print(f"{done.model}: {done.size_bytes} bytes, largest difference from the net {done.largest_difference:.2g}")


if __name__ == "__main__":
    main()
