"""What can be said of the engines for GPUs without loading them: whether they can be used here, and in which ways."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path

from detectors.engines.gpu.cuda import CudaError, find_gpu, why_no_gpu
from detectors.engines.port import Engine, EngineRequest, Way
from detectors.errors import ModelLoadError
from detectors.settings import Precision
from schemas.events import ModelRef

_BATCHES = (8, 1, 16, 32)
"""Tiles per run worth measuring on a GPU, the usual one first."""


def why_no_onnxruntime_cuda() -> str | None:
    """Why ONNX Runtime's CUDA provider cannot be used, in words, or None when it can."""
    return _why_no_provider("CUDAExecutionProvider")


def why_no_onnxruntime_tensorrt() -> str | None:
    """Why ONNX Runtime's TensorRT provider cannot be used, in words, or None when it can."""
    return _why_no_provider("TensorrtExecutionProvider")


def _why_no_provider(name: str) -> str | None:
    why_not = _why_not_installed("cuda", "onnxruntime", "onnx") or why_no_gpu()
    if why_not is not None:
        return why_not
    from detectors.engines.gpu.onnxruntime_gpu import why_no_provider  # noqa: PLC0415 - only where it is installed

    return why_no_provider(name)


def why_no_torch() -> str | None:
    """Why torch cannot be used, in words, or None when it can; it can do without a GPU, slowly."""
    return _why_not_installed("torch", "torch", "onnx2torch")


def why_no_tensorrt() -> str | None:
    """Why TensorRT cannot be used, in words, or None when it can."""
    if find_spec("tensorrt") is None:
        return "TensorRT is not installed; pip install tensorrt"
    return _why_not_installed("cuda", "onnx") or why_no_gpu()


def passed_over_without_gpu() -> str | None:
    """Why auto leaves out an engine that is slow without a GPU, or None with one."""
    why_not = why_no_gpu()
    return None if why_not is None else f"slow without a GPU ({why_not})"


def passed_over_for_minutes() -> str | None:
    """Why auto leaves out an engine that takes minutes to be made: nothing would be served until then."""
    return "takes minutes at the first load; ask for it by name, or let a worker make it in the background"


def gpu_identity(*packages: str) -> str:
    """The GPU, its driver's word for it, and the version of the first of ``packages`` that is installed."""
    from detectors.engines.choose import package_version  # noqa: PLC0415 - choose takes its entries from here

    try:
        gpu = str(find_gpu())
    except CudaError:
        gpu = "no GPU"
    return f"{package_version(*packages)} on {gpu}"


def gpu_ways(name: str, able: Sequence[Precision], request: EngineRequest, dynamic: bool) -> Sequence[Way]:
    """The ways of engine ``name``, which is ``able`` to compute in some precisions: each with several batches."""
    allowed = [one for one in able if request.precision in ("auto", one)]
    return tuple(Way(name, one, batch=batch) for batch in (_BATCHES if dynamic else (0,)) for one in allowed)


def load_onnxruntime_cuda(request: EngineRequest) -> Engine:
    """See :func:`detectors.engines.gpu.onnxruntime_gpu.open_cuda`."""
    from detectors.engines.gpu.onnxruntime_gpu import open_cuda  # noqa: PLC0415 - only where it is installed

    return open_cuda(request)


def load_onnxruntime_tensorrt(request: EngineRequest) -> Engine:
    """See :func:`detectors.engines.gpu.onnxruntime_gpu.open_tensorrt`."""
    from detectors.engines.gpu.onnxruntime_gpu import open_tensorrt  # noqa: PLC0415 - only where it is installed

    return open_tensorrt(request, _cache(request) / "onnxruntime")


def load_torch(request: EngineRequest) -> Engine:
    """See :class:`detectors.engines.gpu.torch.TorchEngine`."""
    from detectors.engines.gpu.torch import TorchEngine  # noqa: PLC0415 - only where it is installed

    return TorchEngine(request)


def load_tensorrt(request: EngineRequest) -> Engine:
    """The model's TensorRT engine, built now where it is not there yet, which takes minutes."""
    from detectors.engines.artefact import upgrade_for  # noqa: PLC0415 - it takes why_no_tensorrt from here

    upgrade = upgrade_for(request, _cache(request), ModelRef(name="local", version="engines"))
    if upgrade is None:
        raise ModelLoadError(f"engine tensorrt cannot be used: {why_no_tensorrt()}")
    upgrade.build(threading.Event())
    return upgrade.load()


def _cache(request: EngineRequest) -> Path:
    """Where engines that take minutes to make are kept."""
    return request.cache or Path.home() / ".cache" / "standgale"


def _why_not_installed(extra: str, *modules: str) -> str | None:
    missing = next((name for name in modules if find_spec(name) is None), None)
    return None if missing is None else f"{missing} is not installed; install standgale[{extra}]"
