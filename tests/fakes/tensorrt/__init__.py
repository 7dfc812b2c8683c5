"""Imitates TensorRT's Python package, as far as Standgale calls it; its engines run on ONNX Runtime's CPU.

Addresses are host addresses (the stand-in driver hands them out), so what is uploaded is what is computed. It is as
strict as the real one where mistakes are likely: shapes outside the profile, addresses and input shapes not set, uint8
that is not cast first. FAKE_TENSORRT says what a build does: crash, hang, or nothing special.
"""

from __future__ import annotations

import ctypes
import enum
import os
import pickle
import time
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime as ort

__version__ = os.environ.get("FAKE_TENSORRT_VERSION", "10.13.3")


class DataType(enum.Enum):
    FLOAT = "float32"
    HALF = "float16"
    UINT8 = "uint8"
    INT64 = "int64"


def nptype(kind: DataType) -> type:
    return np.dtype(kind.value).type


class TensorIOMode(enum.Enum):
    INPUT = 1
    OUTPUT = 2


class MemoryPoolType(enum.Enum):
    WORKSPACE = 1


class LayerType(enum.Enum):
    QUANTIZE = 1
    OTHER = 2


_FLAGS = ["TF32"] + (["FP16", "BF16", "INT8"] if __version__.startswith("10.") else [])
BuilderFlag = enum.Enum("BuilderFlag", _FLAGS)


class ILogger:
    class Severity(enum.Enum):
        INTERNAL_ERROR = 0
        ERROR = 1
        WARNING = 2
        INFO = 3

    WARNING = Severity.WARNING

    def log(self, severity: Severity, msg: str) -> None:
        raise NotImplementedError


class Logger(ILogger):
    def __init__(self, least: ILogger.Severity) -> None:
        self.least = least

    def log(self, severity: ILogger.Severity, msg: str) -> None:
        print(severity.name, msg)


class IProgressMonitor:
    pass


class _Network:
    def __init__(self) -> None:
        self.data = b""
        self.folder = ""

    @property
    def _graph(self) -> onnx.GraphProto:
        return onnx.load_from_string(self.data).graph

    @property
    def num_layers(self) -> int:
        return len(self._graph.node)

    def get_layer(self, index: int) -> Any:
        kind = LayerType.QUANTIZE if self._graph.node[index].op_type == "QuantizeLinear" else LayerType.OTHER
        return type("Layer", (), {"type": kind})()


class OnnxParser:
    def __init__(self, network: _Network, logger: ILogger) -> None:
        self._network, self._faults = network, []

    def parse(self, model: bytes, path: str | None = None) -> bool:
        graph = onnx.load_from_string(model).graph
        for one in graph.input:
            readers = [node.op_type for node in graph.node if one.name in node.input]
            if one.type.tensor_type.elem_type == onnx.TensorProto.UINT8 and readers != ["Cast"]:
                self._faults.append(f"uint8 input {one.name} is read by {readers}")
        self._faults += [f"no importer for {node.op_type}" for node in graph.node if node.op_type == "Unheard"]
        assert path is not None and Path(path).is_file()
        self._network.data, self._network.folder = model, str(Path(path).parent)
        return not self._faults

    @property
    def num_errors(self) -> int:
        return len(self._faults)

    def get_error(self, index: int) -> Any:
        return type("Error", (), {"desc": lambda _: self._faults[index]})()


class _Profile:
    def __init__(self) -> None:
        self.shapes: dict[str, tuple[tuple[int, ...], ...]] = {}

    def set_shape(self, name: str, low: tuple[int, ...], best: tuple[int, ...], high: tuple[int, ...]) -> None:
        self.shapes[name] = (low, best, high)


class _TimingCache:
    def __init__(self, data: bytes) -> None:
        self.data = data

    def serialize(self) -> bytes:
        return self.data + b"t"


class _Config:
    def __init__(self) -> None:
        self.flags = {"TF32"}
        self.profiles: list[_Profile] = []
        self.pool: dict[MemoryPoolType, int] = {}
        self.progress_monitor: Any = None
        self._cache: _TimingCache | None = None

    def set_memory_pool_limit(self, pool: MemoryPoolType, size: int) -> None:
        self.pool[pool] = size

    def set_flag(self, flag: Any) -> None:
        self.flags.add(flag.name)

    def clear_flag(self, flag: Any) -> None:
        self.flags.discard(flag.name)

    def add_optimization_profile(self, profile: _Profile) -> int:
        self.profiles.append(profile)
        return len(self.profiles) - 1

    def create_timing_cache(self, data: bytes) -> _TimingCache:
        return _TimingCache(data)

    def set_timing_cache(self, cache: _TimingCache, ignore_mismatch: bool) -> bool:
        if cache.data.startswith(b"other"):
            return False
        self._cache = cache
        return True

    def get_timing_cache(self) -> _TimingCache:
        assert self._cache is not None
        return self._cache


class Builder:
    def __init__(self, logger: ILogger) -> None:
        self._logger = logger

    def create_network(self, flags: int = 0) -> _Network:
        return _Network()

    def create_builder_config(self) -> _Config:
        return _Config()

    def create_optimization_profile(self) -> _Profile:
        return _Profile()

    def build_serialized_network(self, network: _Network, config: _Config) -> bytes | None:
        behaviour = os.environ.get("FAKE_TENSORRT", "")
        assert config.pool[MemoryPoolType.WORKSPACE] > 0
        config.progress_monitor.phase_start("Building", None, 3)
        if "FAKE_TENSORRT_BUILDS" in os.environ:
            with Path(os.environ["FAKE_TENSORRT_BUILDS"]).open("a") as file:
                file.write(f"{os.getpid()}\n")
        time.sleep(float(os.environ.get("FAKE_TENSORRT_SECONDS", "0")))
        if behaviour == "crash":
            os.abort()
        if behaviour == "nothing":
            self._logger.log(ILogger.Severity.ERROR, "out of memory")
            return None
        while behaviour == "hang":
            time.sleep(0.1)
        assert config.progress_monitor.step_complete("Building", 1)
        config.progress_monitor.phase_finish("Building")
        shapes = config.profiles[0].shapes if config.profiles else {}
        return pickle.dumps({"data": network.data, "folder": network.folder, "shapes": shapes, "flags": config.flags})


class Runtime:
    def __init__(self, logger: ILogger) -> None:
        self._logger = logger

    def deserialize_cuda_engine(self, data: bytes) -> _Engine | None:
        try:
            return _Engine(pickle.loads(data))
        except (pickle.UnpicklingError, EOFError):
            return None


class _Engine:
    def __init__(self, plan: dict[str, Any]) -> None:
        options = ort.SessionOptions()
        options.add_session_config_entry("session.model_external_initializers_file_folder_path", plan["folder"])
        self.session = ort.InferenceSession(plan["data"], options, providers=["CPUExecutionProvider"])
        self.shapes, self.flags = plan["shapes"], plan["flags"]
        self.inputs = {one.name: one for one in self.session.get_inputs()}
        self.outputs = {one.name: one for one in self.session.get_outputs()}
        self._names = [*self.inputs, *self.outputs]

    @property
    def num_io_tensors(self) -> int:
        return len(self._names)

    def get_tensor_name(self, index: int) -> str:
        return self._names[index]

    def get_tensor_mode(self, name: str) -> TensorIOMode:
        return TensorIOMode.INPUT if name in self.inputs else TensorIOMode.OUTPUT

    def get_tensor_shape(self, name: str) -> tuple[int, ...]:
        one = self.inputs.get(name) or self.outputs[name]
        return tuple(side if isinstance(side, int) else -1 for side in one.shape)

    def get_tensor_dtype(self, name: str) -> DataType:
        one = self.inputs.get(name) or self.outputs[name]
        kinds = {"tensor(float)": DataType.FLOAT, "tensor(uint8)": DataType.UINT8, "tensor(int64)": DataType.INT64}
        return kinds[one.type]

    def get_tensor_profile_shape(self, name: str, index: int) -> tuple[tuple[int, ...], ...]:
        return self.shapes[name]

    def create_execution_context(self) -> _Context:
        return _Context(self)


class _Context:
    def __init__(self, engine: _Engine) -> None:
        self._engine = engine
        self._shapes: dict[str, tuple[int, ...]] = {}
        self._addresses: dict[str, int] = {}

    def set_input_shape(self, name: str, shape: tuple[int, ...]) -> bool:
        if name in self._engine.shapes:
            low, _, high = self._engine.shapes[name]
            fits = all(least <= side <= most for least, side, most in zip(low, shape, high, strict=True))
        else:
            fits = shape == self._engine.get_tensor_shape(name)
        if fits:
            self._shapes[name] = tuple(shape)
        return fits

    def get_tensor_shape(self, name: str) -> tuple[int, ...]:
        assert set(self._shapes) == set(self._engine.inputs)
        values = {
            key: np.zeros(shape, nptype(self._engine.get_tensor_dtype(key))) for key, shape in self._shapes.items()
        }
        return self._engine.session.run([name], values)[0].shape

    def set_tensor_address(self, name: str, address: int) -> bool:
        self._addresses[name] = address
        return True

    def execute_async_v3(self, stream: int) -> bool:
        if not stream or set(self._addresses) != {*self._engine.inputs, *self._engine.outputs}:
            return False
        given = {name: self._read(name, shape) for name, shape in self._shapes.items()}
        results = self._engine.session.run(list(self._engine.outputs), given)
        for name, value in zip(self._engine.outputs, results, strict=True):
            whole = np.ascontiguousarray(value)
            ctypes.memmove(self._addresses[name], whole.ctypes.data, whole.nbytes)
        return True

    def _read(self, name: str, shape: tuple[int, ...]) -> np.ndarray:
        kind = np.dtype(nptype(self._engine.get_tensor_dtype(name)))
        size = int(np.prod(shape)) * kind.itemsize
        return np.frombuffer(ctypes.string_at(self._addresses[name], size), kind).reshape(shape)
