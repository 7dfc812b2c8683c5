"""Runs models with OpenVINO on the CPU: pixels are converted in the graph, and tiles run in parallel."""

from __future__ import annotations

import queue
import threading
from collections import deque
from collections.abc import Mapping
from contextlib import suppress

import numpy as np
import numpy.typing as npt

from detectors.engines.batches import pad_batch
from detectors.engines.cpu.openvino_import import ov, preprocess
from detectors.engines.port import EngineRequest, Way, find_image_input, image_axes, repeat_for_batch
from detectors.errors import InferenceError, ModelLoadError
from detectors.geometry.arrays import ImageArray, Outputs
from detectors.settings import Precision

_Outputs = list[npt.NDArray[np.float32]]
_PRECISIONS: Mapping[str, Precision] = {"FP32": "f32", "BF16": "bf16", "FP16": "f16"}
"""OpenVINO's names of the precisions that a CPU supports, and ours; the exact one first."""
_DIGITS: Mapping[str, int] = {"f32": 24, "f16": 11, "bf16": 8}
"""Binary digits of a number in each precision."""


_cores: list[ov.Core] = []
_cores_lock = threading.Lock()


def _core() -> ov.Core:
    """Return the one core of this process, which is never released.

    On CPUs with AMX its plugin sets a signal stack for the thread that creates it, and restores the former one when it
    is deleted. When several plugins are deleted in another order than they were created, a freed stack stays set, and
    the next signal (SIGTERM, when the process is to drain) crashes the process.
    """
    with _cores_lock:
        if not _cores:
            _cores.append(ov.Core())
        return _cores[0]


class OpenVinoEngine:
    """Runs one compiled model in throughput mode; all callers share a pool of infer requests."""

    name = "openvino"

    def __init__(self, request: EngineRequest) -> None:
        """Raises ModelLoadError when OpenVINO cannot load the model."""
        try:
            core = _core()
            model = core.read_model(request.path)
            names = [one.get_names() for one in model.inputs]
            self._image = find_image_input(names, request.constants, request.path)
            shape = [dim.get_length() if dim.is_static else None for dim in model.input(self._image).partial_shape]
            card = request.input
            axes = image_axes(shape, card, request.path, request.batch)
            self._batch = axes.batch
            constants = {
                index: repeat_for_batch(request.constants[name], self._batch)
                for index, each in enumerate(names)
                for name in each & request.constants.keys()
            }
            shapes = {index: list(value.shape) for index, value in constants.items()}
            sides = [card.height, card.width, 3] if axes.channels_last else [3, card.height, card.width]
            model.reshape({self._image: [self._batch, *sides], **shapes})
            converted = _with_conversion(model, request, self._image, "NHWC" if axes.channels_last else "NCHW")
            compiled = core.compile_model(converted, "CPU", _options(request))
            precision = compiled.get_property("INFERENCE_PRECISION_HINT").get_type_name()
            count = int(compiled.get_property("OPTIMAL_NUMBER_OF_INFER_REQUESTS"))
        except RuntimeError as error:
            raise ModelLoadError(f"OpenVINO cannot load {request.path}: {_error_text(error)}") from error
        _require_precision(request.precision, precision)
        self._shapes = [_shape_of_one(output, self._batch) for output in compiled.outputs]
        self._idle: queue.SimpleQueue[ov.InferRequest] = queue.SimpleQueue()
        # Twice as many as run at a time, so that the next tile waits in OpenVINO's queue and not for Python's lock.
        for _ in range(2 * count):
            infer = compiled.create_infer_request()
            for index, value in constants.items():
                infer.set_input_tensor(index, ov.Tensor(value))
            self._idle.put(infer)
        self.reason = (
            f"{request.why}; OpenVINO {ov.__version__.split('-')[0]} computes in {precision} with "
            f"{request.threads} thread(s), {count} tile(s) in parallel"
        )
        self.batch_size = count * self._batch
        # While one call collects its last tiles, the next one already has tiles in the queue.
        self.parallel = 2

    def run(self, tiles: ImageArray) -> Outputs:
        """See :class:`detectors.engines.port.Engine`."""
        if len(tiles) % self._batch:
            padded = pad_batch(tiles, len(tiles) + self._batch - len(tiles) % self._batch)
            return tuple(output[: len(tiles)] for output in self.run(padded))
        outputs = [None if shape is None else np.empty((len(tiles), *shape), np.float32) for shape in self._shapes]
        parts: list[_Outputs] = []
        running: deque[ov.InferRequest] = deque()
        try:
            for start in range(0, len(tiles), self._batch):
                running.append(self._take_idle(running, parts))
                rows = slice(start, start + self._batch)
                running[-1].set_input_tensor(self._image, ov.Tensor(tiles[rows], shared_memory=True))
                for index, output in enumerate(outputs):
                    # The output is written to where the caller reads it, without a copy.
                    if output is not None:
                        running[-1].set_output_tensor(index, ov.Tensor(output[rows], shared_memory=True))
                running[-1].start_async()
            while running:
                self._idle.put(self._collect(running, parts))
        except RuntimeError as error:
            raise InferenceError(f"OpenVINO failed on {len(tiles)} tiles: {_error_text(error)}") from error
        finally:
            for request in running:
                self._idle.put(_stop(request))
        copied = iter([np.concatenate(output) for output in zip(*parts, strict=True)])
        return tuple(next(copied) if output is None else output for output in outputs)

    def _take_idle(self, running: deque[ov.InferRequest], parts: list[_Outputs]) -> ov.InferRequest:
        """Return an idle request: from the pool, else this call's oldest one when done, else the next returned."""
        try:
            return self._idle.get_nowait()
        except queue.Empty:
            return self._collect(running, parts) if running else self._idle.get()

    def _collect(self, running: deque[ov.InferRequest], parts: list[_Outputs]) -> ov.InferRequest:
        """Wait for the oldest running request and copy what it did not write in place, so that it can be reused."""
        oldest = running[0]
        oldest.wait()
        parts.append(
            [
                oldest.get_output_tensor(index).data.astype(np.float32)
                for index, shape in enumerate(self._shapes)
                if shape is None
            ]
        )
        return running.popleft()

    def close(self) -> None:
        """See :class:`detectors.engines.port.Engine`."""
        self._idle = queue.SimpleQueue()


def _options(request: EngineRequest) -> dict[str, str | int]:
    """Return OpenVINO's options for ``request``."""
    options: dict[str, str | int] = {"PERFORMANCE_HINT": "THROUGHPUT", "INFERENCE_NUM_THREADS": request.threads}
    if request.streams:
        options["NUM_STREAMS"] = request.streams
    if request.precision != "auto":
        options["INFERENCE_PRECISION_HINT"] = request.precision
    return options


def _require_precision(requested: str, used: str) -> None:
    """Raise ModelLoadError when OpenVINO computes less exactly (``used``) than ``requested``."""
    if _DIGITS.get(used, 24) < _DIGITS.get(requested, 0):
        raise ModelLoadError(
            f"precision {requested}: OpenVINO computes in {used} on this CPU, which is less exact; "
            f"choose {used}, f32 or auto"
        )


def _shape_of_one(output: ov.Output, batch: int) -> tuple[int, ...] | None:
    """Return the shape of ``output`` for one tile when it is float32 and known, so that it can be written in place.

    Else None.
    """
    shape = output.partial_shape
    if not shape.is_static or output.element_type != ov.Type.f32 or not len(shape) or shape[0].get_length() != batch:
        return None
    return tuple(dim.get_length() for dim in shape)[1:]


def _error_text(error: RuntimeError) -> str:
    """Return OpenVINO's error text without the positions in its source."""
    lines = [line.strip() for line in str(error).splitlines()]
    kept = [line for line in lines if line and not line.startswith(("Exception from", "Caught exception: Exception"))]
    return " ".join(kept) or str(error)


def openvino_ways(request: EngineRequest, dynamic: bool) -> tuple[Way, ...]:
    """Return the ways to run ``request`` on this CPU: each precision with OpenVINO's choice of streams, and with one.

    A ``dynamic`` graph is also run with several tiles per run.
    """
    capabilities = _core().get_property("CPU", "OPTIMIZATION_CAPABILITIES")
    able = [precision for name, precision in _PRECISIONS.items() if name in capabilities]
    allowed = able if request.precision == "auto" else [one for one in able if one == request.precision]
    plans = [(0, 0), (1, 0)] if request.threads > 1 else [(0, 0)]
    plans += [(0, 2), (0, 4)] if dynamic else []
    return tuple(Way("openvino", precision, *plan) for plan in plans for precision in allowed)


def _stop(request: ov.InferRequest) -> ov.InferRequest:
    """Stop and return ``request`` of a failed call: only a stopped request can be used again."""
    request.cancel()
    # The call has already raised the error of a cancelled or failed request.
    with suppress(RuntimeError):
        request.wait()
    return request


def _with_conversion(model: ov.Model, request: EngineRequest, index: int, layout: str) -> ov.Model:
    """Return ``model`` with a uint8 NHWC BGR input ``index``: channel order, scaling and layout are in the graph.

    ``layout``: that of the model's own input, NCHW or NHWC. A graph that takes whole numbers gets the pixels unchanged,
    because the card has no scaling then.
    """
    card = request.input
    steps = preprocess.PrePostProcessor(model)
    image = steps.input(index)
    image.tensor().set_element_type(ov.Type.u8).set_layout(ov.Layout("NHWC")).set_color_format(
        preprocess.ColorFormat.BGR
    )
    image.model().set_layout(ov.Layout(layout))
    image.preprocess().convert_element_type(ov.Type.f32)
    if card.channels == "rgb":
        image.preprocess().convert_color(preprocess.ColorFormat.RGB)
    # (pixel * scale - mean) / std, written as OpenVINO's (pixel - a) / b.
    if any(card.mean):
        image.preprocess().mean([mean / card.scale for mean in card.mean])
    if card.scale != 1 or any(std != 1 for std in card.std):
        image.preprocess().scale([std / card.scale for std in card.std])
    return steps.build()
