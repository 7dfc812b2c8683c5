"""Loads each engine and lists its ways; an engine's library is imported only when one of these functions is called."""

# ruff: noqa: PLC0415 - the libraries are imported where they are installed, and when they are needed

from __future__ import annotations

import threading
from collections.abc import Sequence
from pathlib import Path

from detectors.engines.artefact import artefact_for
from detectors.engines.installed import why_no_tensorrt
from detectors.engines.port import Engine, EngineRequest, Way
from detectors.errors import ModelLoadError
from detectors.settings import Precision
from schemas.event_base import ModelRef

_BATCHES = (8, 1, 16, 32)
"""Tiles per run worth measuring on a GPU, the usual one first."""


def load_openvino(request: EngineRequest) -> Engine:
    """Load the model on the CPU. See :class:`detectors.engines.cpu.openvino.OpenVinoEngine`."""
    from detectors.engines.cpu.openvino import OpenVinoEngine

    return OpenVinoEngine(request)


def openvino_ways(request: EngineRequest, dynamic: bool) -> Sequence[Way]:
    """Return the ways of OpenVINO. See :func:`detectors.engines.cpu.openvino.openvino_ways`."""
    from detectors.engines.cpu.openvino import openvino_ways as ways

    return ways(request, dynamic)


def load_onnxruntime(request: EngineRequest) -> Engine:
    """Load the model on the CPU. See :class:`detectors.engines.cpu.onnxruntime.OnnxRuntimeEngine`."""
    from detectors.engines.cpu.onnxruntime import OnnxRuntimeEngine

    return OnnxRuntimeEngine(request)


def onnxruntime_ways(request: EngineRequest, dynamic: bool) -> Sequence[Way]:
    """Return two ways: one session per thread, and one session with all threads.

    Batches of several tiles make ONNX Runtime slower on a CPU, so ``dynamic`` graphs are run in no other way.
    """
    del dynamic
    if request.precision not in ("auto", "f32"):
        return ()
    streams = (request.threads, 1) if request.threads > 1 else (1,)
    return tuple(Way("onnxruntime", "f32", count) for count in streams)


def gpu_ways(name: str, able: Sequence[Precision], request: EngineRequest, dynamic: bool) -> Sequence[Way]:
    """Return the ways of GPU engine ``name``: each precision of ``able`` that is allowed, with several batches."""
    allowed = [one for one in able if request.precision in ("auto", one)]
    return tuple(Way(name, one, batch=batch) for batch in (_BATCHES if dynamic else (0,)) for one in allowed)


def torch_ways(request: EngineRequest, dynamic: bool) -> Sequence[Way]:
    """Return the ways of torch; none for a model without a program that torch exported."""
    return () if request.exported is None else gpu_ways("torch", ("f32", "f16", "bf16"), request, dynamic)


def load_onnxruntime_cuda(request: EngineRequest) -> Engine:
    """Load the model on the GPU. See :func:`detectors.engines.gpu.onnxruntime_gpu.open_cuda`."""
    from detectors.engines.gpu.onnxruntime_gpu import open_cuda

    return open_cuda(request)


def load_onnxruntime_tensorrt(request: EngineRequest) -> Engine:
    """Load the model on the GPU. See :func:`detectors.engines.gpu.onnxruntime_gpu.open_tensorrt`."""
    from detectors.engines.gpu.onnxruntime_gpu import open_tensorrt

    return open_tensorrt(request, _engines_folder(request) / "onnxruntime")


def load_torch(request: EngineRequest) -> Engine:
    """Load the program that torch exported. See :class:`detectors.engines.gpu.torch.TorchEngine`."""
    if request.exported is None:
        raise ModelLoadError(
            f"engine torch runs what torch exports, and the card of {request.path} names no .pt2 file: write one with "
            "torch.export.save, name it with its checksum under files in the card, or choose another engine"
        )
    from detectors.engines.gpu.torch import TorchEngine

    return TorchEngine(request, request.exported)


def load_tensorrt(request: EngineRequest) -> Engine:
    """Load the model's TensorRT engine; where there is none yet it is built now, which takes minutes."""
    artefact = artefact_for(request, _engines_folder(request), ModelRef(name="local", version="engines"))
    if artefact is None:
        raise ModelLoadError(f"engine tensorrt cannot be used: {why_no_tensorrt()}")
    artefact.build(threading.Event())
    return artefact.load()


def _engines_folder(request: EngineRequest) -> Path:
    """Return the folder in which engines that take minutes to build are kept."""
    return request.engines_folder or Path.home() / ".cache" / "standgale"
