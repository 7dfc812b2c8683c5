"""Defines the job of a TensorRT build, and the file name that identifies model, library and GPU."""

from __future__ import annotations

from hashlib import file_digest, sha256
from pathlib import Path

from pydantic import BaseModel, ConfigDict

from detectors.card.card import InputCard
from detectors.card.onnx_file import read_onnx_file
from detectors.engines.gpu.cuda import Gpu
from detectors.engines.port import EngineRequest
from detectors.settings import Precision

DEFAULT_BATCH = 8
"""Tiles per run of a graph that leaves their number open, where the request names none."""
REFUSED = 3
"""The builder's exit status when another attempt would fail in the same way."""
_SLOW_FLOAT16 = ((6, 1), (6, 2))
"""Compute capabilities of GPUs on which half precision is far slower than single precision."""


class BuildJob(BaseModel):
    """Says what the builder builds; sent as one JSON document."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    model: Path
    """The ONNX file."""
    output: Path
    input: InputCard
    constants: dict[str, tuple[int, ...]]
    """The inputs other than the image, with their shapes for one tile."""
    batch: int
    """The largest number of tiles per run."""
    precision: Precision
    """``f32``, ``f16`` or ``bf16``."""
    workspace_bytes: int
    timing_cache: Path | None = None
    """The file in which measured kernels are kept for the next build."""


def batch_of(request: EngineRequest) -> int:
    """Return the largest number of tiles per run: the graph's, else the request's, else a usual one."""
    image = next(one for one in read_onnx_file(request.path).inputs if one.name not in request.constants)
    fixed = image.shape[0] if image.shape else None
    return fixed or request.batch or DEFAULT_BATCH


def precision_of(request: EngineRequest, gpu: Gpu) -> Precision:
    """Return the engine's precision: the requested one; for auto half precision, except where that is slow."""
    if request.precision != "auto":
        return request.precision
    return "f32" if gpu.capability in _SLOW_FLOAT16 else "f16"


def engine_name(request: EngineRequest, gpu: Gpu, tensorrt_version: str) -> str:
    """Return the file name of the engine of ``request`` for ``gpu``; no engine with another name fits.

    ``<hash>-trt<version>-cc<major><minor>-sm<multiprocessors>-<precision>-b<batch>.engine``; the hash is of the ONNX
    file, of how pixels become its input (which is built in) and of the shapes of its other inputs.
    """
    with request.path.open("rb") as file:
        digest = sha256(file_digest(file, "sha256").digest())
    digest.update(request.input.model_dump_json().encode())
    digest.update(repr(sorted((name, value.shape) for name, value in request.constants.items())).encode())
    major, minor = gpu.capability
    return (
        f"{digest.hexdigest()[:16]}-trt{tensorrt_version}-cc{major}{minor}-sm{gpu.multiprocessors}"
        f"-{precision_of(request, gpu)}-b{batch_of(request)}.engine"
    )
