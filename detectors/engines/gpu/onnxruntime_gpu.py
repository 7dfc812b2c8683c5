"""Runs models with ONNX Runtime on an NVIDIA GPU, by its CUDA or its TensorRT provider."""

from __future__ import annotations

import queue
from collections.abc import Mapping
from dataclasses import dataclass, field
from hashlib import sha256
from pathlib import Path

import numpy as np
import numpy.typing as npt
import onnxruntime as ort

from detectors.engines.batches import pad_batch, portions, sizes_up_to
from detectors.engines.gpu.float16 import convert_to_float16
from detectors.engines.gpu.graph_input import ImageModel, with_image_input
from detectors.engines.port import EngineRequest, repeat_for_batch
from detectors.errors import InferenceError, ModelLoadError
from detectors.geometry.arrays import ImageArray, Outputs
from detectors.settings import Precision
from infra.extras import install_extra

DEFAULT_BATCH = 8
"""Tiles per run of a graph that leaves their number open, where the request names none."""
_STREAMS = 2
"""While the outputs of one call are copied, the next call computes."""
_CPU = "CPUExecutionProvider"


@dataclass(frozen=True, slots=True)
class Provider:
    """Describes an execution provider of ONNX Runtime."""

    name: str
    """ONNX Runtime's name of it."""
    device: str
    """Where its memory is: ``cuda`` or ``cpu``."""
    options: Mapping[str, str] = field(default_factory=dict)
    float16_graph: bool = False
    """Whether half precision has to be in the graph, because the provider computes in the graph's types."""
    graphs: bool = False
    """Whether runs are recorded once per number of tiles and replayed (CUDA graphs).

    That needs fixed addresses, and one run at a time.
    """


def cuda_provider(precision: Precision, device: int = 0, graphs: bool = False) -> Provider:
    """Return the CUDA provider. ``graphs`` works only for models whose nodes all run on the GPU."""
    options = {
        "device_id": str(device),
        # To measure every convolution for every number of tiles takes minutes and is hardly faster.
        "cudnn_conv_algo_search": "HEURISTIC",
        "use_tf32": "0" if precision == "f32" else "1",
    }
    if graphs:
        options["enable_cuda_graph"] = "1"
    return Provider("CUDAExecutionProvider", "cuda", options, float16_graph=True, graphs=graphs)


def tensorrt_provider(
    precision: Precision, shapes: Mapping[str, tuple[int, ...]], batch: int, folder: Path, device: int = 0
) -> Provider:
    """Return the TensorRT provider, which builds its engines when the model is loaded and keeps them in ``folder``.

    ``shapes``: of each input for one tile, where their number is open; ``folder``: for this model only.
    """
    options = {
        "device_id": str(device),
        "trt_fp16_enable": str(precision in ("f16", "auto")),
        "trt_bf16_enable": str(precision == "bf16"),
        "trt_engine_cache_enable": "True",
        "trt_engine_cache_path": str(folder),
        "trt_timing_cache_enable": "True",
        "trt_timing_cache_path": str(folder),
        "trt_max_workspace_size": str(4 * 2**30),
    }
    for bound, tiles in (("min", 1), ("opt", batch), ("max", batch)):
        if shapes:
            options[f"trt_profile_{bound}_shapes"] = ",".join(
                f"{name}:{'x'.join(map(str, (tiles, *shape)))}" for name, shape in shapes.items()
            )
    return Provider("TensorrtExecutionProvider", "cuda", options)


@dataclass(frozen=True, slots=True)
class _RunSlot:
    """What one run at a time needs: for each number of tiles a binding, and the input value bound by it."""

    bindings: Mapping[int, tuple[ort.IOBinding, ort.OrtValue]]


class OnnxRuntimeGpuEngine:
    """Runs one session whose inputs and outputs are bound to the GPU's memory."""

    def __init__(self, name: str, request: EngineRequest, model: ImageModel, provider: Provider) -> None:
        """Raises ModelLoadError when the provider is missing, or ONNX Runtime cannot load the model with it."""
        self.name = name
        self._provider = provider
        self._session = _session(model, request, provider)
        self.batch_size = model.batch or request.batch or DEFAULT_BATCH
        self._sizes = sizes_up_to(self.batch_size) if model.batch is None else (self.batch_size,)
        self._sides = (request.input.height, request.input.width, 3)
        self._outputs = [one.name for one in self._session.get_outputs()]
        # A recorded run belongs to the session, so only one call at a time can replay it.
        self.parallel = 1 if provider.graphs else request.streams or _STREAMS
        self._idle: queue.SimpleQueue[_RunSlot] = queue.SimpleQueue()
        try:
            for _ in range(self.parallel):
                self._idle.put(self._make_slot(model.image_input, request))
        except Exception as error:  # ONNX Runtime's errors share no base class below Exception
            raise ModelLoadError(f"{provider.name} cannot run {request.path}: {error}") from error
        self.reason = (
            f"{request.why}; ONNX Runtime {ort.__version__} with {provider.name} computes in {request.precision}, "
            f"up to {self.batch_size} tile(s) a run, {self.parallel} run(s) in parallel"
        )

    def _make_slot(self, image: str, request: EngineRequest) -> _RunSlot:
        bindings = {}
        for size in self._sizes:
            binding = self._session.io_binding()
            value = ort.OrtValue.ortvalue_from_shape_and_type((size, *self._sides), np.uint8, self._provider.device, 0)
            binding.bind_ortvalue_input(image, value)
            for name, constant in request.constants.items():
                given = ort.OrtValue.ortvalue_from_numpy(repeat_for_batch(constant, size), self._provider.device, 0)
                binding.bind_ortvalue_input(name, given)
            for name in self._outputs:
                binding.bind_output(name, self._provider.device, 0)
            if self._provider.graphs:
                self._record(binding, value, size)
            bindings[size] = (binding, value)
        return _RunSlot(bindings)

    def _record(self, binding: ort.IOBinding, value: ort.OrtValue, size: int) -> None:
        """Run once to get the outputs' shapes, then bind them to that memory: a replay writes to the same addresses."""
        value.update_inplace(np.zeros((size, *self._sides), np.uint8))
        self._session.run_with_iobinding(binding, _run_options(self._provider, -1))
        for name, output in zip(self._outputs, binding.get_outputs(), strict=True):
            binding.bind_ortvalue_output(name, output)
        self._session.run_with_iobinding(binding, _run_options(self._provider, size))

    def run(self, tiles: ImageArray) -> Outputs:
        """See :class:`detectors.engines.port.Engine`."""
        slot = self._idle.get()
        try:
            parts = [
                [output[: end - first] for output in self._run_in_slot(slot, tiles[first:end], size)]
                for first, end, size in portions(len(tiles), self._sizes)
            ]
        except Exception as error:  # ONNX Runtime's errors share no base class below Exception
            raise InferenceError(f"{self._provider.name} failed on {len(tiles)} tiles: {error}") from error
        finally:
            self._idle.put(slot)
        return tuple(np.concatenate(output) for output in zip(*parts, strict=True))

    def _run_in_slot(self, slot: _RunSlot, tiles: ImageArray, size: int) -> list[npt.NDArray[np.float32]]:
        if tiles.shape[1:] != self._sides:
            raise ValueError(f"tiles are {tiles.shape[1:]}, the model takes {self._sides}")
        binding, value = slot.bindings[size]
        value.update_inplace(np.ascontiguousarray(pad_batch(tiles, size)))
        self._session.run_with_iobinding(binding, _run_options(self._provider, size))
        binding.synchronize_outputs()
        return [np.asarray(output, np.float32) for output in binding.copy_outputs_to_cpu()]

    def close(self) -> None:
        """See :class:`detectors.engines.port.Engine`."""
        self._idle = queue.SimpleQueue()
        del self._session


def image_model(request: EngineRequest, float16: bool) -> ImageModel:
    """Return the model of ``request`` with preprocessing in its graph; ``float16``: in half precision, too."""
    model = convert_to_float16(request.path) if float16 else None
    return with_image_input(request.path, request.input, request.constants, model)


def open_cuda(request: EngineRequest) -> OnnxRuntimeGpuEngine:
    """Load a model on the CUDA provider; auto computes in f32. Raises ModelLoadError when it cannot be used."""
    if request.precision == "bf16":
        raise ModelLoadError("precision bf16: ONNX Runtime's CUDA provider is given f32 or f16; choose one of them")
    model = image_model(request, float16=request.precision == "f16")
    return OnnxRuntimeGpuEngine("onnxruntime_cuda", request, model, cuda_provider(request.precision))


def open_tensorrt(request: EngineRequest, folder: Path) -> OnnxRuntimeGpuEngine:
    """Load a model on the TensorRT provider; auto computes in f16. Takes minutes unless ``folder`` has the engine."""
    model = image_model(request, float16=False)
    card = request.input
    shapes = {model.image_input: (card.height, card.width, 3)}
    shapes.update({name: value.shape for name, value in request.constants.items()})
    batch = model.batch or request.batch or DEFAULT_BATCH
    # The provider names its files after the graph, not after its weights: each model needs its folder.
    own = folder / sha256(model.data).hexdigest()[:16]
    own.mkdir(parents=True, exist_ok=True)
    provider = tensorrt_provider(request.precision, {} if model.batch else shapes, batch, own)
    return OnnxRuntimeGpuEngine("onnxruntime_tensorrt", request, model, provider)


def why_no_provider(name: str) -> str | None:
    """Return why the installed ONNX Runtime has no provider ``name``, or None when it has."""
    if name in ort.get_available_providers():
        return None
    return (
        f"the installed ONNX Runtime {ort.__version__} has no {name}; uninstall onnxruntime, and "
        f"{install_extra('cuda')}"
    )


def _session(model: ImageModel, request: EngineRequest, provider: Provider) -> ort.InferenceSession:
    why_not = why_no_provider(provider.name)
    if why_not is not None:
        raise ModelLoadError(why_not)
    options = ort.SessionOptions()
    options.intra_op_num_threads = request.threads
    options.log_severity_level = 3
    # The graph comes from memory, so ONNX Runtime needs the folder of separate weight files.
    options.add_session_config_entry(
        "session.model_external_initializers_file_folder_path", str(model.folder.resolve())
    )
    chain: list[str | tuple[str, dict[str, str]]] = [(provider.name, dict(provider.options))]
    if provider.name == "TensorrtExecutionProvider":
        device = provider.options["device_id"]
        chain.append(("CUDAExecutionProvider", {"device_id": device}))
    if provider.name != _CPU:
        chain.append(_CPU)
    try:
        session = ort.InferenceSession(model.data, options, providers=chain)
    except Exception as error:  # ONNX Runtime's errors share no base class below Exception
        raise ModelLoadError(f"{provider.name} cannot load {request.path}: {error}") from error
    # A provider without its libraries is left out with only a line on standard error.
    if provider.name not in session.get_providers():
        raise ModelLoadError(
            f"{provider.name} did not start, ONNX Runtime fell back to {', '.join(session.get_providers())}; "
            "its libraries (CUDA, cuDNN, TensorRT) or the GPU are missing: see the messages on standard error"
        )
    return session


def _run_options(provider: Provider, number: int) -> ort.RunOptions | None:
    """Return the options for a provider that records runs: ``number`` names the recording, -1 means none."""
    if not provider.graphs:
        return None
    options = ort.RunOptions()
    options.add_run_config_entry("gpu_graph_id", str(number))
    return options
