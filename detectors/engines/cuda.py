"""NVIDIA's driver, called as it is: what GPU there is, and memory, copies and streams for engines without their own."""

from __future__ import annotations

import ctypes
from ctypes import POINTER, byref, c_char_p, c_int, c_size_t, c_uint, c_uint64, c_void_p
from dataclasses import dataclass
from functools import cache

import numpy as np
import numpy.typing as npt

from schemas.errors import WindhoverError

LIBRARY = "libcuda.so.1"
LEAST_CAPABILITY = (6, 1)
"""Older GPUs compute no faster than a good processor, and current libraries no longer know them."""

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


class CudaError(WindhoverError):
    """The driver is not there, finds no GPU, or failed at what it was asked."""

    code = "CUDA_ERROR"


@dataclass(frozen=True, slots=True)
class Gpu:
    """What matters of a GPU: its compute capability (major, minor), multiprocessors and memory."""

    name: str
    capability: tuple[int, int]
    multiprocessors: int
    memory_bytes: int

    def __str__(self) -> str:
        return f"{self.name} (compute capability {self.capability[0]}.{self.capability[1]})"


@cache
def _library(path: str) -> ctypes.CDLL:
    """The driver's library, ready for calls. Raises CudaError when it is not installed or finds no GPU."""
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
    """GPU number ``device``. Raises CudaError when there is no such GPU, or no driver."""
    library = _library(LIBRARY)
    count, handle, memory = c_int(), c_int(), c_size_t()
    _call(library, "cuDeviceGetCount", byref(count))
    if device >= count.value:
        raise CudaError(f"GPU {device} does not exist, the driver finds {count.value}; look at CUDA_VISIBLE_DEVICES")
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
    """Why GPU number ``device`` cannot be used, in words, or None when it can."""
    try:
        gpu = find_gpu(device)
    except CudaError as error:
        return str(error)
    if gpu.capability < LEAST_CAPABILITY:
        least = ".".join(map(str, LEAST_CAPABILITY))
        return f"{gpu} is too old, {least} is needed; choose an engine for the CPU"
    return None


class Device:
    """A GPU in use: its context, shared with every library of this process that uses the CUDA runtime."""

    def __init__(self, number: int = 0) -> None:
        """Raises CudaError when the GPU cannot be used."""
        self._library = _library(LIBRARY)
        handle, context = c_int(), c_void_p()
        self._do("cuDeviceGet", byref(handle), number)
        self._do("cuDevicePrimaryCtxRetain", byref(context), handle)
        self._handle, self._context = handle, context

    def _do(self, name: str, *arguments: object) -> None:
        _call(self._library, name, *arguments)

    def enter(self) -> None:
        """Make this GPU the calling thread's own; before any other call from that thread."""
        self._do("cuCtxSetCurrent", self._context)

    def stream(self) -> int:
        """A new stream: what is put into it runs in order, beside what is in others."""
        made = c_void_p()
        self._do("cuStreamCreate", byref(made), _NON_BLOCKING)
        return made.value or 0

    def wait(self, stream: int) -> None:
        """Until everything in ``stream`` is done. Raises CudaError when something in it failed."""
        self._do("cuStreamSynchronize", stream)

    def allocate(self, size: int) -> int:
        """The address of ``size`` bytes on the GPU."""
        made = c_uint64()
        self._do("cuMemAlloc_v2", byref(made), size)
        return made.value

    def pinned(self, shape: tuple[int, ...], kind: npt.DTypeLike) -> npt.NDArray[np.generic]:
        """An array the GPU copies from and to by itself; it must be given to ``release_pinned`` in the end."""
        size = int(np.prod(shape)) * np.dtype(kind).itemsize
        made = c_void_p()
        self._do("cuMemAllocHost_v2", byref(made), size)
        buffer = (ctypes.c_uint8 * size).from_address(made.value or 0)
        return np.ctypeslib.as_array(buffer).view(kind).reshape(shape)

    def upload(self, array: npt.NDArray[np.generic], address: int, stream: int) -> None:
        """Copy ``array`` (contiguous) to ``address``; it must stay as it is until the stream is through."""
        self._do("cuMemcpyHtoDAsync_v2", address, array.ctypes.data, array.nbytes, stream)

    def download(self, address: int, array: npt.NDArray[np.generic], stream: int) -> None:
        """Copy from ``address`` into all of ``array`` (contiguous)."""
        self._do("cuMemcpyDtoHAsync_v2", array.ctypes.data, address, array.nbytes, stream)

    def release(self, address: int) -> None:
        """Give memory on the GPU back."""
        self._do("cuMemFree_v2", address)

    def release_pinned(self, array: npt.NDArray[np.generic]) -> None:
        """Give the memory of an array from ``pinned`` back; it must not be touched any more."""
        self._do("cuMemFreeHost", array.ctypes.data)

    def release_stream(self, stream: int) -> None:
        """Give a stream back in which nothing runs any more."""
        self._do("cuStreamDestroy_v2", stream)

    def close(self) -> None:
        """Give the context back; other libraries of this process keep theirs."""
        self._do("cuDevicePrimaryCtxRelease_v2", self._handle)
