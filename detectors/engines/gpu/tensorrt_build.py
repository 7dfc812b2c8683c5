"""Builds one TensorRT engine in a process of its own: ``python -m detectors.engines.gpu.tensorrt_build``, job on stdin.

The first line of standard input is the job, a BuildJob as JSON; the process ends when standard input does, because then
whoever wanted the engine is gone. What happens is told on standard error, line by line.
"""

from __future__ import annotations

import os
import sys
import threading
from pathlib import Path

import tensorrt as trt

from detectors.engines.gpu.float16 import convert_to_float16
from detectors.engines.gpu.graph_input import PictureModel, with_picture_input
from detectors.engines.gpu.tensorrt_job import REFUSED, BuildJob
from detectors.errors import ModelLoadError

_ORPHANED = 4
_GENTLE = 10
_MAJOR = 10
_TOLD = (trt.ILogger.Severity.INTERNAL_ERROR, trt.ILogger.Severity.ERROR, trt.ILogger.Severity.WARNING)


class NothingBuiltError(Exception):
    """TensorRT gave up, for want of memory for example; another attempt may succeed."""


class _TensorRtLogger(trt.ILogger):  # type: ignore[misc]  # TensorRT publishes no types
    """TensorRT's own warnings and errors, on standard error."""

    def __init__(self) -> None:
        trt.ILogger.__init__(self)

    def log(self, severity: object, message: str) -> None:
        if severity in _TOLD:
            _print_line(message)


class _PhaseLog(trt.IProgressMonitor):  # type: ignore[misc]  # TensorRT publishes no types
    """Says which phase begins, and nothing of the thousands of steps within."""

    def __init__(self) -> None:
        trt.IProgressMonitor.__init__(self)

    def phase_start(self, phase_name: str, parent_phase: str | None, num_steps: int) -> None:
        if parent_phase is None:
            _print_line(f"{phase_name}: {num_steps} steps")

    def step_complete(self, phase_name: str, step: int) -> bool:
        return True

    def phase_finish(self, phase_name: str) -> None:
        """Nothing to say."""


def main() -> int:
    """Read the job, build, write; 0 when the engine lies at the job's output."""
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
    """The engine ``job`` wants, written to its output. Raises ModelLoadError when TensorRT does not take the model."""
    if int(trt.__version__.split(".")[0]) < _MAJOR:
        raise ModelLoadError(f"TensorRT {trt.__version__} is too old; install {_MAJOR} or later")
    # From version 11 on TensorRT computes in the types of the graph, and no flag allows others.
    by_flags = hasattr(trt.BuilderFlag, "FP16")
    float16 = convert_to_float16(job.model) if job.precision == "f16" and not by_flags else None
    model = with_picture_input(job.model, job.input, job.constants, float16)
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
        raise NothingBuiltError("TensorRT built nothing; what it says stands above")
    job.output.write_bytes(plan)
    _save_timing_cache(config, job.timing_cache)
    _print_line(f"built {job.output.stat().st_size / 2**20:.0f} MiB")


def _parse(network: trt.INetworkDefinition, model: PictureModel, path: Path, log: _TensorRtLogger) -> None:
    parser = trt.OnnxParser(network, log)
    # The path tells where weights in files of their own lie; the graph is not the one in it.
    if not parser.parse(model.data, path=str(path)):
        faults = "; ".join(parser.get_error(index).desc() for index in range(min(parser.num_errors, 3)))
        raise ModelLoadError(f"TensorRT does not take {path}: {faults}")


def _set_precision(config: trt.IBuilderConfig, network: trt.INetworkDefinition, job: BuildJob, by_flags: bool) -> None:
    """Let TensorRT compute in what is asked for, as far as it is told so ``by_flags``."""
    if job.precision == "f32":
        # Otherwise multiplications lose 13 of their 23 bits.
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


def _profile(builder: trt.Builder, model: PictureModel, job: BuildJob) -> trt.IOptimizationProfile:
    """From one tile to the job's batch, fastest with the whole batch."""
    profile = builder.create_optimization_profile()
    shapes = {model.picture: (job.input.height, job.input.width, 3), **job.constants}
    for name, shape in shapes.items():
        profile.set_shape(name, (1, *shape), (job.batch, *shape), (job.batch, *shape))
    return profile


def _use_timing_cache(config: trt.IBuilderConfig, path: Path | None) -> None:
    if path is None:
        return
    kept = path.read_bytes() if path.is_file() else b""
    cache = config.create_timing_cache(kept)
    if not config.set_timing_cache(cache, False):
        _print_line(f"{path} is of another GPU or version, so it is made anew")
        config.set_timing_cache(config.create_timing_cache(b""), False)


def _save_timing_cache(config: trt.IBuilderConfig, path: Path | None) -> None:
    if path is None:
        return
    part = path.with_suffix(f".{os.getpid()}.part")
    part.write_bytes(config.get_timing_cache().serialize())
    part.replace(path)


def _exit_when_stdin_closes() -> None:
    """Nobody waits for the engine any more: end at once, whatever TensorRT is at."""
    sys.stdin.read()
    os._exit(_ORPHANED)


def _print_line(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main())
