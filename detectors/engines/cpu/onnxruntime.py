"""Runs models with ONNX Runtime on the CPU: one single-thread session per core is faster than one with all cores."""

from __future__ import annotations

import queue
from collections.abc import Mapping

import cv2
import numpy as np
import numpy.typing as npt
import onnxruntime as ort

from detectors.card.card import InputCard
from detectors.engines.batches import pad_batch
from detectors.engines.port import EngineRequest, find_image_input, image_axes, repeat_for_batch
from detectors.errors import InferenceError, ModelLoadError
from detectors.geometry.arrays import ImageArray, Outputs

_INPUT_TYPES: Mapping[str, type[np.generic]] = {
    "tensor(float)": np.float32,
    "tensor(float16)": np.float16,
    "tensor(double)": np.float64,
    "tensor(uint8)": np.uint8,
}


class OnnxRuntimeEngine:
    """Runs a pool of sessions, usually of one thread each; a call takes one and runs its tiles one after the other."""

    name = "onnxruntime"

    def __init__(self, request: EngineRequest) -> None:
        """Raises ModelLoadError when ONNX Runtime cannot load the model, or not compute in the requested precision."""
        if request.precision not in ("auto", "f32"):
            raise ModelLoadError(
                f"precision {request.precision}: ONNX Runtime computes in f32 on the CPU; choose f32 or auto"
            )
        streams = request.streams or request.threads
        try:
            sessions = [self._session(request, max(1, request.threads // streams)) for _ in range(streams)]
        except Exception as error:  # ONNX Runtime's errors share no base class below Exception
            raise ModelLoadError(f"ONNX Runtime cannot load {request.path}: {error}") from error
        inputs = sessions[0].get_inputs()
        image = inputs[find_image_input([{one.name} for one in inputs], request.constants, request.path)]
        if image.type not in _INPUT_TYPES:
            raise ModelLoadError(f"{request.path} takes {image.type}; export it with a float32 or uint8 input")
        shape = [dim if isinstance(dim, int) else None for dim in image.shape]
        axes = image_axes(shape, request.input, request.path, request.batch)
        self._batch, self._channels_last = axes.batch, axes.channels_last
        self._input_name: str = image.name
        self._input_type = _INPUT_TYPES[image.type]
        self._constant = {name: repeat_for_batch(value, self._batch) for name, value in request.constants.items()}
        self._card = request.input
        self._idle: queue.SimpleQueue[ort.InferenceSession] = queue.SimpleQueue()
        for session in sessions:
            self._idle.put(session)
        self.reason = (
            f"{request.why}; ONNX Runtime {ort.__version__} computes in f32 with "
            f"{streams} session(s) of {max(1, request.threads // streams)} thread(s)"
        )
        self.batch_size = self._batch
        self.parallel = streams

    @staticmethod
    def _session(request: EngineRequest, threads: int) -> ort.InferenceSession:
        options = ort.SessionOptions()
        options.intra_op_num_threads = threads
        options.inter_op_num_threads = 1
        options.log_severity_level = 3
        return ort.InferenceSession(str(request.path), options, providers=["CPUExecutionProvider"])

    def run(self, tiles: ImageArray) -> Outputs:
        """See :class:`detectors.engines.port.Engine`."""
        session = self._idle.get()
        try:
            parts = [self._run_one(session, tiles[at : at + self._batch]) for at in range(0, len(tiles), self._batch)]
        except Exception as error:  # ONNX Runtime's errors share no base class below Exception
            raise InferenceError(f"ONNX Runtime failed on {len(tiles)} tiles: {error}") from error
        finally:
            self._idle.put(session)
        return tuple(np.concatenate(output)[: len(tiles)] for output in zip(*parts, strict=True))

    def _run_one(self, session: ort.InferenceSession, tiles: ImageArray) -> list[npt.NDArray[np.float32]]:
        values = to_input(pad_batch(tiles, self._batch), self._card).astype(self._input_type, copy=False)
        if self._channels_last:
            values = np.ascontiguousarray(values.transpose(0, 2, 3, 1))
        outputs = session.run(None, {self._input_name: values, **self._constant})
        return [np.asarray(output, np.float32) for output in outputs]

    def close(self) -> None:
        """See :class:`detectors.engines.port.Engine`."""
        self._idle = queue.SimpleQueue()


def to_input(tiles: ImageArray, card: InputCard) -> npt.NDArray[np.float32]:
    """Return (pixel * scale - mean) / std of ``tiles`` (uint8 (N, H, W, 3) BGR) as the input: float32 (N, 3, H, W)."""
    values: npt.NDArray[np.float32] = cv2.dnn.blobFromImages(
        list(tiles), scalefactor=card.scale, swapRB=card.channels == "rgb"
    ).astype(np.float32, copy=False)
    if any(card.mean):
        values -= np.array(card.mean, np.float32)[:, None, None]
    if any(std != 1 for std in card.std):
        values /= np.array(card.std, np.float32)[:, None, None]
    return values
