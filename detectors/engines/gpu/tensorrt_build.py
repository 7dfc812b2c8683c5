"""Builds one TensorRT engine in a separate process: ``python -m detectors.engines.gpu.tensorrt_build``, job on stdin.

The first line of standard input is the job, a BuildJob as JSON. The process ends when standard input closes, because
then the process that wants the engine has ended. It prints its progress to standard error, line by line.
"""

from __future__ import annotations

import os
import sys
import threading
from pathlib import Path

import tensorrt as trt

from detectors.engines.gpu.float16 import convert_to_float16
from detectors.engines.gpu.graph_input import ImageModel, with_image_input
from detectors.engines.gpu.tensorrt_job import REFUSED, BuildJob
from detectors.errors import ModelLoadError

_ORPHANED = 4
_GENTLE = 10
_MAJOR = 10
_PRINTED = (trt.ILogger.Severity.INTERNAL_ERROR, trt.ILogger.Severity.ERROR, trt.ILogger.Severity.WARNING)


class NothingBuiltError(Exception):
    """Says that TensorRT built nothing, because of too little memory for example; another attempt may succeed."""


class _TensorRtLogger(trt.ILogger):  # type: ignore[misc]  # TensorRT publishes no types
    """Prints TensorRT's warnings and errors to standard error."""

    def __init__(self) -> None:
        trt.ILogger.__init__(self)

    def log(self, severity: object, message: str) -> None:
        if severity in _PRINTED:
            _print_line(message)


class _PhaseLog(trt.IProgressMonitor):  # type: ignore[misc]  # TensorRT publishes no types
    """Prints when a phase begins; its thousands of steps are not printed."""

    def __init__(self) -> None:
        trt.IProgressMonitor.__init__(self)

    def phase_start(self, phase_name: str, parent_phase: str | None, num_steps: int) -> None:
        if parent_phase is None:
            _print_line(f"{phase_name}: {num_steps} steps")

    def step_complete(self, phase_name: str, step: int) -> bool:
        return True

    def phase_finish(self, phase_name: str) -> None:
        """Do nothing: only the begin of a phase is printed."""


def main() -> int:
    """Read the job and build the engine; return 0 when the file is complete."""
    job = BuildJob.model_validate_json(sys.stdin.readline())
    threading.Thread(target=_exit_when_stdin_closes, daemon=True).start()
    os.nice(_GENTLE)
    try:
        build(job)
    except ModelLoadError as error:
        _print_line(str(error))
        return REFUSED
    except NothingBuiltError as error:
        _print_line(str(error))
        return 1
    return 0


def build(job: BuildJob) -> None:
    """Build the engine of ``job`` and write it. Raises ModelLoadError when TensorRT cannot build the model."""
    if int(trt.__version__.split(".")[0]) < _MAJOR:
        raise ModelLoadError(f"TensorRT {trt.__version__} is too old; install {_MAJOR} or later")
    # From version 11 on TensorRT computes only in the types of the graph; there are no flags for others.
    by_flags = hasattr(trt.BuilderFlag, "FP16")
    float16 = convert_to_float16(job.model) if job.precision == "f16" and not by_flags else None
    model = with_image_input(job.model, job.input, job.constants, float16)
    log = _TensorRtLogger()
    builder = trt.Builder(log)
    network = builder.create_network(0)
    _parse(network, model, job.model, log)
    config = builder.create_builder_config()
    config.set_memory_pool_limit(trt.MemoryPoolType.WORKSPACE, job.workspace_bytes)
    config.progress_monitor = _PhaseLog()
    _set_precision(config, network, job, by_flags)
    if model.batch is None:
        config.add_optimization_profile(_profile(builder, model, job))
    _use_timing_cache(config, job.timing_cache)
    _print_line(f"building for {job.batch} tile(s) a run in {job.precision}")
    plan = builder.build_serialized_network(network, config)
    if plan is None:
        raise NothingBuiltError("TensorRT built nothing; its messages are above")
    job.output.write_bytes(plan)
    _save_timing_cache(config, job.timing_cache)
    _print_line(f"built {job.output.stat().st_size / 2**20:.0f} MiB")


def _parse(network: trt.INetworkDefinition, model: ImageModel, path: Path, log: _TensorRtLogger) -> None:
    parser = trt.OnnxParser(network, log)
    # The path is only for separate weight files in its folder; the graph comes from memory.
    if not parser.parse(model.data, path=str(path)):
        errors = "; ".join(parser.get_error(index).desc() for index in range(min(parser.num_errors, 3)))
        raise ModelLoadError(f"TensorRT cannot read {path}: {errors}")


def _set_precision(config: trt.IBuilderConfig, network: trt.INetworkDefinition, job: BuildJob, by_flags: bool) -> None:
    """Allow the precision of ``job``; ``by_flags``: this version of TensorRT has flags for precisions."""
    if job.precision == "f32":
        # With TF32 multiplications lose 13 of their 23 bits.
        config.clear_flag(trt.BuilderFlag.TF32)
    elif by_flags:
        config.set_flag(trt.BuilderFlag.FP16 if job.precision == "f16" else trt.BuilderFlag.BF16)
    elif job.precision == "bf16":
        raise ModelLoadError(
            f"precision bf16: TensorRT {trt.__version__} computes in the types of the graph; choose f16 or f32"
        )
    kinds = {network.get_layer(index).type for index in range(network.num_layers)}
    if by_flags and trt.LayerType.QUANTIZE in kinds:
        config.set_flag(trt.BuilderFlag.INT8)


def _profile(builder: trt.Builder, model: ImageModel, job: BuildJob) -> trt.IOptimizationProfile:
    """Return a profile for one tile up to the job's batch, fastest with the full batch."""
    profile = builder.create_optimization_profile()
    shapes = {model.image_input: (job.input.height, job.input.width, 3), **job.constants}
    for name, shape in shapes.items():
        profile.set_shape(name, (1, *shape), (job.batch, *shape), (job.batch, *shape))
    return profile


def _use_timing_cache(config: trt.IBuilderConfig, path: Path | None) -> None:
    if path is None:
        return
    kept = path.read_bytes() if path.is_file() else b""
    cache = config.create_timing_cache(kept)
    if not config.set_timing_cache(cache, False):
        _print_line(f"{path} is of another GPU or version, so a new one is made")
        config.set_timing_cache(config.create_timing_cache(b""), False)


def _save_timing_cache(config: trt.IBuilderConfig, path: Path | None) -> None:
    if path is None:
        return
    part = path.with_suffix(f".{os.getpid()}.part")
    part.write_bytes(config.get_timing_cache().serialize())
    part.replace(path)


def _exit_when_stdin_closes() -> None:
    """End this process when standard input closes: then no process waits for the engine."""
    sys.stdin.read()
    os._exit(_ORPHANED)


def _print_line(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main())
