"""torch: uint8 goes up from pinned memory, preprocessing and model are one CUDA graph per number of tiles."""

from __future__ import annotations

import logging
import queue
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from detectors.card.card import InputCard
from detectors.card.onnx_file import read_onnx_file
from detectors.engines.gpu.batches import padded, portions, sizes_up_to
from detectors.engines.gpu.torch_module import Precision, TorchModule, Weights
from detectors.engines.gpu.torch_steps import Tensor
from detectors.engines.port import EngineRequest, fixed_batch, picture_at, repeated
from detectors.errors import InferenceError, ModelLoadError
from detectors.geometry.arrays import ImageArray, Outputs

DEFAULT_BATCH = 8
"""Tiles per run on a GPU where nobody asks for another number."""
_STREAMS = 2
_WARM_UP = 3
"""Runs before recording: libraries choose their kernels and take their memory in the first ones."""
_HALVES: dict[str, Any] = {"f16": torch.float16, "bf16": torch.bfloat16}

logger = logging.getLogger(__name__)
_Net = Callable[[Tensor], tuple[Tensor, ...]]


@dataclass(frozen=True, slots=True)
class _Run:
    """One number of tiles, made ready. ``pixels``: where tiles are put; ``go``: runs and gives where answers lie."""

    pixels: Tensor
    go: Callable[[], tuple[Tensor, ...]]


@dataclass(frozen=True, slots=True)
class _Lane:
    """What one call at a time uses: a stream (None on a CPU) and a run for each number of tiles."""

    stream: Any
    runs: dict[int, _Run]


class TorchEngine:
    """A model on one GPU, or on the CPU where there is none."""

    name = "torch"

    def __init__(self, request: EngineRequest) -> None:
        """Raises ModelLoadError when the graph has something that torch is not taught."""
        self._cuda = torch.cuda.is_available()
        self._device = torch.device("cuda:0" if self._cuda else "cpu")
        self._card = request.input
        if not self._cuda:
            torch.set_num_threads(request.threads)
        self._graphs = "no CUDA graphs"
        self.batch_size, self._sizes = self._batches(request)
        # Without a GPU torch uses all its threads for one run.
        self.parallel = (request.streams or _STREAMS) if self._cuda else 1
        half = _HALVES.get("f16" if request.precision == "auto" and self._cuda else request.precision)
        try:
            torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = request.precision != "f32"
            weights = Weights()
            nets = {size: self._net(request, size, half, weights) for size in self._sizes}
            self._idle: queue.SimpleQueue[_Lane] = queue.SimpleQueue()
            for _ in range(self.parallel):
                self._idle.put(self._lane(nets))
        except RuntimeError as error:
            raise ModelLoadError(f"torch cannot load {request.path}: {error}") from error
        where = torch.cuda.get_device_name(self._device) if self._cuda else f"the CPU, {request.threads} thread(s)"
        self.reason = (
            f"{request.why}; torch {torch.__version__} on {where} computes in {str(half or torch.float32)[6:]}, "
            f"up to {self.batch_size} tile(s) a run, {self.parallel} run(s) side by side, {self._graphs}"
        )

    def _batches(self, request: EngineRequest) -> tuple[int, tuple[int, ...]]:
        inputs = read_onnx_file(request.path).inputs
        picture = inputs[picture_at([{one.name} for one in inputs], request.constants, request.path)]
        self._names = tuple(one.name for one in inputs)
        self._picture = picture.name
        fixed = picture.shape[0] if picture.shape else None
        batch = fixed_batch(
            list(picture.shape), request.input, request.path, request.batch or (DEFAULT_BATCH if self._cuda else 1)
        )
        return batch, (batch,) if fixed else sizes_up_to(batch)

    def _net(self, request: EngineRequest, size: int, half: Any, weights: Weights) -> _Net:
        """From ``size`` uint8 tiles on the device to float32 outputs there."""
        card = request.input
        constants = {name: repeated(value, size) for name, value in request.constants.items()}
        shapes = {
            name: constants[name].shape if name in constants else (size, 3, card.height, card.width)
            for name in self._names
        }
        module = TorchModule(request.path, shapes, Precision(str(self._device), half), weights)
        given = {name: torch.from_numpy(value.copy()).to(self._device) for name, value in constants.items()}

        prepare = preparation(card, self._device)

        def net(pixels: Tensor) -> tuple[Tensor, ...]:
            picture = prepare(pixels)
            outputs = module(*(given.get(name, picture) for name in self._names))
            return tuple(output.float() for output in outputs)

        return net

    def _lane(self, nets: dict[int, _Net]) -> _Lane:
        sides = (self._card.height, self._card.width, 3)
        if not self._cuda:
            return _Lane(
                None, {size: _eager(net, torch.empty((size, *sides), dtype=torch.uint8)) for size, net in nets.items()}
            )
        stream = torch.cuda.Stream(self._device)
        runs: dict[int, _Run] = {}
        # Graphs of one lane never run at the same time, so they share their memory; the largest comes first.
        pool = torch.cuda.graph_pool_handle()
        with torch.inference_mode(), torch.cuda.stream(stream):
            for size, net in sorted(nets.items(), reverse=True):
                pixels = torch.zeros((size, *sides), dtype=torch.uint8, device=self._device)
                for _ in range(_WARM_UP):
                    net(pixels)
                stream.synchronize()
                runs[size] = self._recorded(net, pixels, stream, pool)
        stream.synchronize()
        return _Lane(stream, runs)

    def _recorded(self, net: _Net, pixels: Tensor, stream: Any, pool: Any) -> _Run:
        """``net`` as one CUDA graph; where it cannot be recorded, as it is."""
        graph = torch.cuda.CUDAGraph()
        try:
            with torch.cuda.graph(graph, pool=pool, stream=stream, capture_error_mode="thread_local"):
                outputs = net(pixels)
        except RuntimeError as error:
            logger.warning("the model cannot be recorded as a CUDA graph and runs step by step", exc_info=error)
            return _eager(net, pixels)
        self._graphs = "CUDA graphs"

        def go() -> tuple[Tensor, ...]:
            graph.replay()
            return outputs

        return _Run(pixels, go)

    def run(self, tiles: ImageArray) -> Outputs:
        """See :class:`detectors.engines.port.Engine`."""
        lane = self._idle.get()
        try:
            parts = [
                [output[: end - first] for output in self._run_one(lane, padded(tiles[first:end], size))]
                for first, end, size in portions(len(tiles), self._sizes)
            ]
        except (RuntimeError, ValueError) as error:
            raise InferenceError(f"torch failed on {len(tiles)} tiles: {error}") from error
        finally:
            self._idle.put(lane)
        return tuple(np.concatenate(output) for output in zip(*parts, strict=True))

    def _run_one(self, lane: _Lane, tiles: ImageArray) -> list[npt.NDArray[np.float32]]:
        run = lane.runs[len(tiles)]
        if run.pixels.shape != tiles.shape:
            raise ValueError(f"tiles are {tiles.shape[1:]}, the model takes {tuple(run.pixels.shape[1:])}")
        # A copy of its own: torch takes no array that may not be written to.
        given = torch.from_numpy(np.array(tiles))
        with torch.inference_mode():
            if lane.stream is None:
                run.pixels.copy_(given)
                return [output.numpy().copy() for output in run.go()]
            with torch.cuda.stream(lane.stream):
                # Pinned memory from torch's own cache: it is not used again before the copy is through.
                run.pixels.copy_(given.pin_memory(), non_blocking=True)
                answers = [output.to("cpu", non_blocking=True) for output in run.go()]
            lane.stream.synchronize()
            return [answer.numpy() for answer in answers]

    def on_device(self) -> tuple[Any, Callable[[], object]]:
        """A stream, and one run of the largest batch in it over whatever tiles lie on the GPU: for measuring.

        Only while nobody calls ``run``. The stream is None on a CPU.
        """
        lane = self._idle.get()
        self._idle.put(lane)
        return lane.stream, lane.runs[self.batch_size].go

    def close(self) -> None:
        """See :class:`detectors.engines.port.Engine`."""
        self._idle = queue.SimpleQueue()
        if self._cuda:
            torch.cuda.empty_cache()


def _eager(net: _Net, pixels: Tensor) -> _Run:
    return _Run(pixels, lambda: net(pixels))


def preparation(card: InputCard, device: Any) -> Callable[[Tensor], Tensor]:
    """From uint8 (N, H, W, 3) BGR to what ``card`` describes, float32 (N, 3, H, W), both on ``device``.

    The picture stays as it lies in memory, channels last, which is what convolutions are fastest with.
    """
    mean, std = (torch.tensor(values, device=device).reshape(1, 3, 1, 1) for values in (card.mean, card.std))
    shifted, divided = any(card.mean), any(one != 1 for one in card.std)

    def prepare(pixels: Tensor) -> Tensor:
        turned = pixels.flip(-1) if card.channels == "rgb" else pixels
        values = turned.permute(0, 3, 1, 2).to(torch.float32)
        if card.scale != 1:
            values = values * card.scale
        if shifted:
            values = values - mean
        return values / std if divided else values

    return prepare
