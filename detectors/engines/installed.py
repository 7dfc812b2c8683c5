"""Reports which engines can be used on this machine: installed packages, their versions, and the GPU."""

from __future__ import annotations

from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec

from detectors.engines.gpu.cuda import CudaError, find_gpu, why_no_gpu
from infra.extras import install_extra


def why_not_installed(extra: str, *modules: str) -> str | None:
    """Return why an engine that needs ``modules`` cannot be used, or None when all of them are installed."""
    missing = next((name for name in modules if find_spec(name) is None), None)
    return None if missing is None else f"{missing} is not installed; {install_extra(extra)}"


def package_version(*packages: str) -> str:
    """Return name and version of the first of ``packages`` that is installed, or an empty text."""
    for package in packages:
        try:
            return f"{package} {version(package)}"
        except PackageNotFoundError:
            continue
    return ""


def gpu_identity(*packages: str) -> str:
    """Return the version of the first of ``packages`` that is installed, and the GPU's name."""
    try:
        gpu = str(find_gpu())
    except CudaError:
        gpu = "no GPU"
    return f"{package_version(*packages)} on {gpu}"


def why_no_onnxruntime_cuda() -> str | None:
    """Return why ONNX Runtime's CUDA provider cannot be used, or None when it can."""
    return _why_no_provider("CUDAExecutionProvider")


def why_no_onnxruntime_tensorrt() -> str | None:
    """Return why ONNX Runtime's TensorRT provider cannot be used, or None when it can."""
    return _why_no_provider("TensorrtExecutionProvider")


def _why_no_provider(name: str) -> str | None:
    why_not = why_not_installed("cuda", "onnxruntime", "onnx") or why_no_gpu()
    if why_not is not None:
        return why_not
    from detectors.engines.gpu.onnxruntime_gpu import why_no_provider  # noqa: PLC0415 - only where it is installed

    return why_no_provider(name)


def why_no_torch() -> str | None:
    """Return why torch cannot be used, or None when it can; it also runs without a GPU, slowly."""
    return why_not_installed("torch", "torch")


def why_no_tensorrt() -> str | None:
    """Return why TensorRT cannot be used, or None when it can."""
    if find_spec("tensorrt") is None:
        return "TensorRT is not installed; install the package tensorrt into the environment of standgale"
    return why_not_installed("cuda", "onnx") or why_no_gpu()


def why_slow_without_gpu() -> str | None:
    """Return why auto does not choose an engine that is slow without a GPU, or None where there is a GPU."""
    why_not = why_no_gpu()
    return None if why_not is None else f"slow without a GPU ({why_not})"
