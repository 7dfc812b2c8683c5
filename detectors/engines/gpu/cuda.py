"""Calls NVIDIA's driver directly: finds the GPU, and provides memory, copies and streams for TensorRT."""

from __future__ import annotations

import ctypes
import logging
from ctypes import POINTER, byref, c_char_p, c_int, c_size_t, c_uint, c_uint64, c_void_p
from dataclasses import dataclass
from functools import cache

import numpy as np
import numpy.typing as npt

from schemas.errors import StandgaleError

logger = logging.getLogger(__name__)

LIBRARY = "libcuda.so.1"
LEAST_CAPABILITY = (6, 1)
"""Older GPUs compute no faster than a good processor, and current libraries do not support them."""

# Numbers of CUdevice_attribute and flags of the driver API.
_MULTIPROCESSORS, _CAPABILITY_MAJOR, _CAPABILITY_MINOR = 16, 75, 76
_NON_BLOCKING = 1
_NAME_BYTES = 256
_FUNCTIONS: dict[str, tuple[type, ...]] = {
    "cuInit": (c_uint,),
    "cuDeviceGetCount": (POINTER(c_int),),
    "cuDeviceGet": (POINTER(c_int), c_int),
    "cuDeviceGetName": (c_char_p, c_int, c_int),
    "cuDeviceGetAttribute": (POINTER(c_int), c_int, c_int),
    "cuDeviceTotalMem_v2": (POINTER(c_size_t), c_int),
    "cuDevicePrimaryCtxRetain": (POINTER(c_void_p), c_int),
    "cuDevicePrimaryCtxRelease_v2": (c_int,),
    "cuCtxSetCurrent": (c_void_p,),
    "cuMemAlloc_v2": (POINTER(c_uint64), c_size_t),
    "cuMemFree_v2": (c_uint64,),
    "cuMemAllocHost_v2": (POINTER(c_void_p), c_size_t),
    "cuMemFreeHost": (c_void_p,),
    "cuMemcpyHtoDAsync_v2": (c_uint64, c_void_p, c_size_t, c_void_p),
    "cuMemcpyDtoHAsync_v2": (c_void_p, c_uint64, c_size_t, c_void_p),
    "cuStreamCreate": (POINTER(c_void_p), c_uint),
    "cuStreamDestroy_v2": (c_void_p,),
    "cuStreamSynchronize": (c_void_p,),
    "cuGetErrorString": (c_int, POINTER(c_char_p)),
}


class CudaError(StandgaleError):
    """Says that the driver is missing, finds no GPU, or a call to it failed."""

    code = "CUDA_ERROR"


@dataclass(frozen=True, slots=True)
class Gpu:
    """Describes a GPU: its name, compute capability (major, minor), multiprocessors and memory."""

    name: str
    capability: tuple[int, int]
    multiprocessors: int
    memory_bytes: int

    def __str__(self) -> str:
        return f"{self.name} (compute capability {self.capability[0]}.{self.capability[1]})"


@cache
def _library(path: str) -> ctypes.CDLL:
    """Return the driver's library, ready for calls. Raises CudaError when it is not installed or finds no GPU."""
    try:
        library = ctypes.CDLL(path)
    except OSError as error:
        raise CudaError(f"no NVIDIA driver ({path}: {error}); install it, or choose an engine for the CPU") from error
    for name, arguments in _FUNCTIONS.items():
        function = getattr(library, name)
        function.argtypes, function.restype = arguments, c_int
    _call(library, "cuInit", 0)
    return library


def _call(library: ctypes.CDLL, name: str, *arguments: object) -> None:
    status = getattr(library, name)(*arguments)
    if status:
        text = c_char_p()
        library.cuGetErrorString(status, byref(text))
        raise CudaError(f"{name} failed with {status} ({(text.value or b'unknown').decode(errors='replace')})")


def find_gpu(device: int = 0) -> Gpu:
    """Return GPU number ``device``. Raises CudaError when there is no such GPU, or no driver."""
    library = _library(LIBRARY)
    count, handle, memory = c_int(), c_int(), c_size_t()
    _call(library, "cuDeviceGetCount", byref(count))
    if device >= count.value:
        raise CudaError(f"GPU {device} does not exist, the driver finds {count.value}; check CUDA_VISIBLE_DEVICES")
    _call(library, "cuDeviceGet", byref(handle), device)
    name = ctypes.create_string_buffer(_NAME_BYTES)
    _call(library, "cuDeviceGetName", name, _NAME_BYTES, handle)
    _call(library, "cuDeviceTotalMem_v2", byref(memory), handle)

    def attribute(number: int) -> int:
        value = c_int()
        _call(library, "cuDeviceGetAttribute", byref(value), number, handle)
        return value.value

    return Gpu(
        name=name.value.decode(errors="replace"),
        capability=(attribute(_CAPABILITY_MAJOR), attribute(_CAPABILITY_MINOR)),
        multiprocessors=attribute(_MULTIPROCESSORS),
        memory_bytes=memory.value,
    )


def why_no_gpu(device: int = 0) -> str | None:
    """Return why GPU number ``device`` cannot be used, or None when it can."""
    try:
        gpu = find_gpu(device)
    except CudaError as error:
        return str(error)
    if gpu.capability < LEAST_CAPABILITY:
        least = ".".join(map(str, LEAST_CAPABILITY))
        return f"{gpu} is too old, {least} is needed; choose an engine for the CPU"
    return None


class GpuDevice:
    """Provides streams, memory and copies on one GPU, in the context that the CUDA runtime of this process uses, too.

    ``close`` releases all of them together. Only one thread at a time may allocate or close.
    """

    def __init__(self, number: int = 0) -> None:
        """Raises CudaError when the GPU cannot be used."""
        self._library = _library(LIBRARY)
        handle, context = c_int(), c_void_p()
        self._do("cuDeviceGet", byref(handle), number)
        self._do("cuDevicePrimaryCtxRetain", byref(context), handle)
        self._context = context
        # For each resource, the function that releases it, and its argument.
        self._taken: list[tuple[str, object]] = [("cuDevicePrimaryCtxRelease_v2", handle)]

    def _do(self, name: str, *arguments: object) -> None:
        _call(self._library, name, *arguments)

    def enter(self) -> None:
        """Use this GPU's context in the calling thread; call it before any other method in that thread."""
        self._do("cuCtxSetCurrent", self._context)

    def stream(self) -> int:
        """Return a new stream; its work runs in order, and in parallel with that of other streams."""
        made = c_void_p()
        self._do("cuStreamCreate", byref(made), _NON_BLOCKING)
        self._taken.append(("cuStreamDestroy_v2", made.value))
        return made.value or 0

    def wait(self, stream: int) -> None:
        """Wait until all work in ``stream`` is done. Raises CudaError when some of it failed."""
        self._do("cuStreamSynchronize", stream)

    def allocate(self, size: int) -> int:
        """Return the address of ``size`` new bytes on the GPU."""
        made = c_uint64()
        self._do("cuMemAlloc_v2", byref(made), size)
        self._taken.append(("cuMemFree_v2", made.value))
        return made.value

    def allocate_pinned(self, shape: tuple[int, ...], kind: npt.DTypeLike) -> npt.NDArray[np.generic]:
        """Return a new array that the GPU copies directly; it must not be used after ``close``."""
        size = int(np.prod(shape)) * np.dtype(kind).itemsize
        made = c_void_p()
        self._do("cuMemAllocHost_v2", byref(made), size)
        self._taken.append(("cuMemFreeHost", made.value))
        buffer = (ctypes.c_uint8 * size).from_address(made.value or 0)
        return np.ctypeslib.as_array(buffer).view(kind).reshape(shape)

    def upload(self, array: npt.NDArray[np.generic], address: int, stream: int) -> None:
        """Copy ``array`` (contiguous) to ``address``; it must not change until the stream is done."""
        self._do("cuMemcpyHtoDAsync_v2", address, array.ctypes.data, array.nbytes, stream)

    def download(self, address: int, array: npt.NDArray[np.generic], stream: int) -> None:
        """Copy from ``address`` into all of ``array`` (contiguous)."""
        self._do("cuMemcpyDtoHAsync_v2", array.ctypes.data, address, array.nbytes, stream)

    def close(self) -> None:
        """Release all resources of this object, then the context; other libraries of this process keep theirs.

        No work may be running. A second call does nothing.
        """
        if not self._taken:
            return
        steps = [*self._taken, ("cuCtxSetCurrent", self._context)][::-1]
        self._taken = []
        for name, what in steps:
            try:
                self._do(name, what)
            except CudaError as error:
                # After a run that broke the context the driver refuses every call; its resources are lost with it.
                logger.warning("the GPU's driver did not release a resource: %s", error)
