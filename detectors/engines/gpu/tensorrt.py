"""Runs a built TensorRT engine file: several runs in parallel, each on a separate stream, with uint8 tiles as input."""

from __future__ import annotations

import queue
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import tensorrt as trt

from detectors.engines.gpu.cuda import CudaError, Gpu, GpuDevice, find_gpu
from detectors.engines.port import EngineRequest, repeat_for_batch
from detectors.errors import InferenceError, ModelLoadError
from detectors.geometry.arrays import ImageArray, Outputs

_STREAMS = 2
"""While one run computes, the tiles of the next run are copied."""


@dataclass(frozen=True, slots=True)
class _Tensor:
    """An input or output: its address ``at`` on the GPU, and its ``host`` array, both for the largest batch."""

    name: str
    at: int
    host: npt.NDArray[np.generic]


@dataclass(frozen=True, slots=True)
class _RunSlot:
    """What one run at a time needs: TensorRT's context, a stream and buffers for the largest batch."""

    context: trt.IExecutionContext
    stream: int
    image: _Tensor
    constants: tuple[_Tensor, ...]
    outputs: tuple[_Tensor, ...]


class TensorRtEngine:
    """Runs an engine that ``tensorrt_build`` built; each call takes one of its run slots."""

    name = "tensorrt"

    def __init__(self, request: EngineRequest, artefact: Path) -> None:
        """Raises ModelLoadError when ``artefact`` does not fit this GPU, this library or the model."""
        self._log = trt.Logger(trt.Logger.WARNING)
        try:
            gpu = find_gpu()
            self._device = GpuDevice()
        except CudaError as error:
            raise ModelLoadError(f"TensorRT engine {artefact} cannot be loaded: {error}") from error
        try:
            self._device.enter()
            self._open(request, artefact, gpu)
        except (OSError, CudaError, TypeError) as error:
            # TypeError: an output of a type that numpy does not have.
            self.close()
            raise ModelLoadError(f"TensorRT engine {artefact} cannot be loaded on {gpu}: {error}") from error
        except BaseException:
            self.close()
            raise
        self.reason = (
            f"{request.why}; TensorRT {trt.__version__} on {gpu}, built as {artefact.name}, up to "
            f"{self.batch_size} tile(s) a run, {self.parallel} run(s) in parallel"
        )

    def _open(self, request: EngineRequest, artefact: Path, gpu: Gpu) -> None:
        """Load ``artefact`` and make its run slots."""
        # The runtime must exist longer than its engine.
        self._runtime = trt.Runtime(self._log)
        self._engine = self._runtime.deserialize_cuda_engine(artefact.read_bytes())
        if self._engine is None:
            raise ModelLoadError(
                f"TensorRT {trt.__version__} cannot read {artefact} as an engine on {gpu}; delete it, "
                "so that it is built again"
            )
        self._names = [self._engine.get_tensor_name(index) for index in range(self._engine.num_io_tensors)]
        inputs = [name for name in self._names if self._engine.get_tensor_mode(name) == trt.TensorIOMode.INPUT]
        self._image = self._image_input(inputs, request, artefact)
        self._fixed = self._engine.get_tensor_shape(self._image)[0] > 0
        self.batch_size = int(self._largest(self._image)[0])
        constants = {name: repeat_for_batch(value, self.batch_size) for name, value in request.constants.items()}
        self._idle: queue.SimpleQueue[_RunSlot] = queue.SimpleQueue()
        self.parallel = request.streams or _STREAMS
        for _ in range(self.parallel):
            self._idle.put(self._make_slot(constants, artefact))

    def _image_input(self, inputs: list[str], request: EngineRequest, artefact: Path) -> str:
        images = [name for name in inputs if name not in request.constants]
        card = request.input
        sides = (card.height, card.width, 3)
        if (
            len(images) != 1
            or len(inputs) != 1 + len(request.constants)
            or tuple(self._engine.get_tensor_shape(images[0]))[1:] != sides
            or self._engine.get_tensor_dtype(images[0]) != trt.DataType.UINT8
        ):
            raise ModelLoadError(
                f"{artefact} takes {', '.join(inputs)}, not one uint8 image (N, {', '.join(map(str, sides))}); "
                "delete it, so that it is built again"
            )
        return images[0]

    def _largest(self, name: str) -> tuple[int, ...]:
        """Return the shape of input ``name`` for the largest batch."""
        shape = tuple(self._engine.get_tensor_shape(name))
        if min(shape, default=1) >= 0:
            return shape
        return tuple(self._engine.get_tensor_profile_shape(name, 0)[2])

    def _make_slot(self, constants: Mapping[str, npt.NDArray[np.generic]], artefact: Path) -> _RunSlot:
        context = self._engine.create_execution_context()
        if context is None:
            raise CudaError("TensorRT could not create an execution context")
        for name in (self._image, *constants):
            context.set_input_shape(name, self._largest(name))
        outputs = [name for name in self._names if name != self._image and name not in constants]
        shapes = {name: tuple(context.get_tensor_shape(name)) for name in outputs}
        for name, shape in shapes.items():
            if min(shape, default=1) < 0 or not shape or shape[0] != self.batch_size:
                raise ModelLoadError(
                    f"{artefact}: output {name} is {shape}, not a fixed number of values per tile; "
                    "choose another engine for this model"
                )
        slot = _RunSlot(
            context=context,
            stream=self._device.stream(),
            image=self._tensor(self._image, self._largest(self._image)),
            constants=tuple(self._tensor(name, value.shape) for name, value in constants.items()),
            outputs=tuple(self._tensor(name, shape) for name, shape in shapes.items()),
        )
        for one in (slot.image, *slot.constants, *slot.outputs):
            context.set_tensor_address(one.name, one.at)
        for one in slot.constants:
            one.host[...] = constants[one.name]
            self._device.upload(one.host, one.at, slot.stream)
        self._device.wait(slot.stream)
        return slot

    def _tensor(self, name: str, shape: tuple[int, ...]) -> _Tensor:
        host = self._device.allocate_pinned(shape, trt.nptype(self._engine.get_tensor_dtype(name)))
        return _Tensor(name, self._device.allocate(host.nbytes), host)

    def run(self, tiles: ImageArray) -> Outputs:
        """See :class:`detectors.engines.port.Engine`."""
        slot = self._idle.get()
        try:
            self._device.enter()
            step = self.batch_size
            parts = [self._run_in_slot(slot, tiles[at : at + step]) for at in range(0, len(tiles), step)]
        except (CudaError, ValueError, RuntimeError) as error:
            raise InferenceError(f"TensorRT failed on {len(tiles)} tiles: {error}") from error
        finally:
            self._idle.put(slot)
        return tuple(np.concatenate(output) for output in zip(*parts, strict=True))

    def _run_in_slot(self, slot: _RunSlot, tiles: ImageArray) -> list[npt.NDArray[np.float32]]:
        count = len(tiles)
        held = self.batch_size if self._fixed else count
        slot.image.host[:count] = tiles
        if not self._fixed:
            for one in (slot.image, *slot.constants):
                slot.context.set_input_shape(one.name, (count, *one.host.shape[1:]))
        self._device.upload(slot.image.host[:held], slot.image.at, slot.stream)
        started = slot.context.execute_async_v3(slot.stream)
        if started:
            for one in slot.outputs:
                self._device.download(one.at, one.host[:held], slot.stream)
        # Also when it did not start: the stream may still use this slot's buffers.
        self._device.wait(slot.stream)
        if not started:
            raise RuntimeError("it did not start the run; see its log")
        return [one.host[:count].astype(np.float32) for one in slot.outputs]

    def close(self) -> None:
        """See :class:`detectors.engines.port.Engine`."""
        self._idle = queue.SimpleQueue()
        self._engine = self._runtime = None
        self._device.close()
