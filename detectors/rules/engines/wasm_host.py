"""Gives a WebAssembly program the few functions of a system that Trealla needs: an input, an output, a fixed clock.

There are no files, no network, no arguments and no environment: all other functions of the system answer that they are
not there.
"""

from __future__ import annotations

import struct
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from wasmtime import Caller, Linker, Memory, Module

_OK, _BAD_DESCRIPTOR, _NOT_THERE = 0, 8, 52
_INPUT, _OUTPUT, _ERRORS = 0, 1, 2
_CHARACTER_DEVICE = 2
_ALL_RIGHTS = 0xFFFFFFFF
# The same in every run, so that runs cannot differ: a second in 2001, in nanoseconds.
_CLOCK_NS = 10**18


@dataclass(slots=True)
class Exchange:
    """Holds the input and output of the run of a thread."""

    input: bytes = b""
    most_output: int = 1 << 20
    output: bytearray = field(default_factory=bytearray)
    overflowed: bool = False
    _read: int = 0

    def read(self, size: int) -> bytes:
        """Return the next bytes of the input; none at its end."""
        data = self.input[self._read : self._read + size]
        self._read += len(data)
        return data

    def write(self, data: bytes) -> bool:
        """Add ``data`` to the output; return whether it had room."""
        if len(self.output) + len(data) > self.most_output:
            self.overflowed = True
            return False
        self.output += data
        return True


class _Current(threading.local):
    exchange = Exchange()


_current = _Current()


def set_exchange(exchange: Exchange) -> None:
    """Let the next run of this thread use ``exchange``."""
    _current.exchange = exchange


def define_host(linker: Linker, module: Module) -> None:
    """Define every function that ``module`` imports."""
    for wanted in module.imports:
        kind = wanted.type
        results: Sequence[object] = getattr(kind, "results", ())
        call = _FUNCTIONS.get(wanted.name or "", _not_there if results else _ended)
        linker.define_func(wanted.module, wanted.name or "", kind, call, access_caller=True)  # type: ignore[arg-type]


class EndedError(Exception):
    """A program ended itself."""


def _not_there(_caller: Caller, *_arguments: int) -> int:
    return _NOT_THERE


def _ended(_caller: Caller, *_arguments: int) -> None:
    raise EndedError("the program ended itself")


def _memory(caller: Caller) -> Memory:
    memory: Memory = caller["memory"]  # type: ignore[assignment]
    return memory


def _pieces(caller: Caller, at: int, count: int) -> list[tuple[int, int]]:
    """Return address and length of each of the pieces of memory that a list at ``at`` names."""
    table = bytes(_memory(caller).read(caller, at, at + 8 * count))
    return list(struct.iter_unpack("<II", table))


def _write_number(caller: Caller, at: int, value: int, form: str = "<I") -> int:
    _memory(caller).write(caller, bytearray(struct.pack(form, value)), at)
    return _OK


def _fd_read(caller: Caller, descriptor: int, pieces: int, count: int, done: int) -> int:
    if descriptor != _INPUT:
        return _BAD_DESCRIPTOR
    total = 0
    for at, size in _pieces(caller, pieces, count):
        data = _current.exchange.read(size)
        _memory(caller).write(caller, bytearray(data), at)
        total += len(data)
        if len(data) < size:
            break
    return _write_number(caller, done, total)


def _fd_write(caller: Caller, descriptor: int, pieces: int, count: int, done: int) -> int:
    if descriptor not in (_OUTPUT, _ERRORS):
        return _BAD_DESCRIPTOR
    total = 0
    for at, size in _pieces(caller, pieces, count):
        if not _current.exchange.write(bytes(_memory(caller).read(caller, at, at + size))):
            # A program could go on trying for ever.
            raise EndedError("the output is full")
        total += size
    return _write_number(caller, done, total)


def _fd_fdstat_get(caller: Caller, descriptor: int, at: int) -> int:
    if descriptor > _ERRORS:
        return _BAD_DESCRIPTOR
    status = struct.pack("<BxHxxxxQQ", _CHARACTER_DEVICE, 0, _ALL_RIGHTS, _ALL_RIGHTS)
    _memory(caller).write(caller, bytearray(status), at)
    return _OK


def _clock_time_get(caller: Caller, _clock: int, _precision: int, at: int) -> int:
    return _write_number(caller, at, _CLOCK_NS, "<Q")


def _sizes_get(caller: Caller, count: int, size: int) -> int:
    """Say that there are no arguments and no variables of the environment."""
    _write_number(caller, count, 0)
    return _write_number(caller, size, 0)


def _nothing(_caller: Caller, *_arguments: int) -> int:
    return _OK


def _no_descriptor(_caller: Caller, *_arguments: int) -> int:
    return _BAD_DESCRIPTOR


_FUNCTIONS: dict[str, Callable[..., int | None]] = {
    "fd_read": _fd_read,
    "fd_write": _fd_write,
    "fd_fdstat_get": _fd_fdstat_get,
    "clock_time_get": _clock_time_get,
    "args_sizes_get": _sizes_get,
    "args_get": _nothing,
    "environ_sizes_get": _sizes_get,
    "environ_get": _nothing,
    # Without this answer the program looks for folders that were opened for it, for ever.
    "fd_prestat_get": _no_descriptor,
    "fd_close": _nothing,
}
