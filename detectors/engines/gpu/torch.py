"""Runs the program that torch exported from the same model as the ONNX file, on a GPU or on the CPU."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from detectors.card.card import InputCard
from detectors.engines.batches import pad_batch
from detectors.engines.port import EngineRequest, find_image_input, image_axes, repeat_for_batch
from detectors.errors import InferenceError, ModelLoadError
from detectors.geometry.arrays import ImageArray, Outputs

Tensor = Any
"""A torch.Tensor: where torch is not installed its types are unknown."""
DEFAULT_BATCH = 8
"""Tiles per run on a GPU where the request names no other number."""
_GPU_CALLERS = 2
"""While the outputs of one call are copied, the next call's tiles are prepared."""
_FLOAT16: dict[str, Any] = {"f16": torch.float16, "bf16": torch.bfloat16}


class TorchEngine:
    """Runs an exported program on the first GPU, or on the CPU where there is none."""

    name = "torch"

    def __init__(self, request: EngineRequest, program: Path) -> None:
        """Raises ModelLoadError when torch cannot load ``program``, or it takes another input than the model."""
        self._path = program
        self._card = request.input
        self._cuda = torch.cuda.is_available()
        self._device = torch.device("cuda:0" if self._cuda else "cpu")
        if not self._cuda:
            torch.set_num_threads(request.threads)
        self._float16 = _FLOAT16.get(request.precision)
        torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = request.precision != "f32"
        try:
            loaded = _on_device(torch.export.load(self._path), self._device)
            self._module = loaded.module() if self._float16 is None else _without_type_checks(loaded.module())
            shapes = _input_shapes(loaded)
        except Exception as error:  # torch's errors share no base class below Exception
            raise ModelLoadError(f"torch {torch.__version__} cannot load {self._path}: {error}") from error
        self._names = tuple(shapes)
        name = self._names[find_image_input([{name} for name in shapes], request.constants, self._path)]
        image, self._type = shapes[name], _input_type(loaded, name)
        self._fixed = bool(image and image[0])
        wanted = request.batch or (DEFAULT_BATCH if self._cuda else 1)
        axes = image_axes(image, request.input, self._path, wanted)
        self.batch_size, self._channels_last = axes.batch, axes.channels_last
        self.parallel = _GPU_CALLERS if self._cuda else 1
        self._constants = dict(request.constants)
        where = torch.cuda.get_device_name(self._device) if self._cuda else f"the CPU, {request.threads} thread(s)"
        self.reason = (
            f"{request.why}; torch {torch.__version__} on {where} computes in "
            f"{'f32' if self._float16 is None else request.precision}, up to {self.batch_size} tile(s) a run"
        )

    def run(self, tiles: ImageArray) -> Outputs:
        """See :class:`detectors.engines.port.Engine`."""
        sides = (self._card.height, self._card.width, 3)
        if tiles.shape[1:] != sides:
            raise InferenceError(f"torch failed: tiles are {tiles.shape[1:]}, the model takes {sides}")
        batch = self.batch_size
        try:
            parts = [self._run_batch(tiles[at : at + batch]) for at in range(0, len(tiles), batch)]
        except Exception as error:  # torch's errors share no base class below Exception
            raise InferenceError(f"torch failed on {len(tiles)} tiles: {error}") from error
        return tuple(np.concatenate(output) for output in zip(*parts, strict=True))

    def _run_batch(self, tiles: ImageArray) -> list[npt.NDArray[np.float32]]:
        count = len(tiles)
        if self._fixed:
            tiles = pad_batch(tiles, self.batch_size)
        with (
            torch.inference_mode(),
            torch.autocast(self._device.type, dtype=self._float16, enabled=self._float16 is not None),
        ):
            # A copy, because torch takes no array that may not be written to.
            image = to_model_input(torch.from_numpy(np.array(tiles)).to(self._device), self._card)
            image = (image.permute(0, 2, 3, 1).contiguous() if self._channels_last else image).to(self._type)
            inputs = [
                torch.from_numpy(repeat_for_batch(self._constants[name], len(tiles)).copy()).to(self._device)
                if name in self._constants
                else image
                for name in self._names
            ]
            result = self._module(*inputs)
            outputs = result if isinstance(result, tuple | list) else (result,)
            return [output[:count].float().cpu().numpy() for output in outputs]

    def close(self) -> None:
        """See :class:`detectors.engines.port.Engine`."""
        del self._module
        if self._cuda:
            torch.cuda.empty_cache()


def to_model_input(pixels: Tensor, card: InputCard) -> Tensor:
    """Return uint8 (N, H, W, 3) BGR ``pixels`` as the input that ``card`` describes: float32 (N, 3, H, W)."""
    ordered = pixels.flip(-1) if card.channels == "rgb" else pixels
    values = ordered.permute(0, 3, 1, 2).to(torch.float32) * card.scale
    mean, std = (torch.tensor(one, device=pixels.device).reshape(1, 3, 1, 1) for one in (card.mean, card.std))
    return (values - mean) / std


def _on_device(program: Any, device: Any) -> Any:
    """Return ``program`` with its weights and the tensors that it makes on ``device``."""
    if device.type == "cpu":
        return program
    from torch.export.passes import move_to_device_pass  # noqa: PLC0415 - only with a GPU

    return move_to_device_pass(program, device)


def _without_type_checks(module: Any) -> Any:
    """Return ``module`` without the checks that its values have the types of the export: autocast changes them."""
    for node in list(module.graph.nodes):
        if node.target is torch.ops.aten._assert_tensor_metadata.default:
            module.graph.erase_node(node)
    module.recompile()
    return module


def _input_type(program: Any, name: str) -> Any:
    """Return the type of the input ``name``."""
    return next(node.meta["val"].dtype for node in program.graph.nodes if node.name == name)


def _input_shapes(program: Any) -> dict[str, list[int | None]]:
    """Return the shape of each input by its name, in the order of the call; None for a size that is left open."""
    wanted = program.graph_signature.user_inputs
    sizes = {node.name: node.meta["val"].shape for node in program.graph.nodes if node.name in wanted}
    return {name: [one if isinstance(one, int) else None for one in sizes[name]] for name in wanted}
