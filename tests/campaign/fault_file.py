"""Writes the faults of one process to a small file that the process maps (see inject.c and launcher.py)."""

from __future__ import annotations

import mmap
import shutil
import struct
import subprocess
import sys
from enum import IntEnum
from pathlib import Path

VARIABLE = "CAMPAIGN_FAULT_FILE"
_SHIFT = struct.Struct("<q")
_DELAY = struct.Struct("<i")
_ENGINE = struct.Struct("<i")
_SHIFT_AT, _DELAY_AT, _ENGINE_AT, _SIZE = 0, 8, 12, 16


class EngineFault(IntEnum):
    """The fault of a detector's engine."""

    NONE = 0
    FAILS = 1
    """The engine raises on every batch."""
    HANGS = 2
    """The engine does not return before the fault ends."""


class FaultFile:
    """Keeps the faults of one process in the file at ``path``, which it creates if needed."""

    def __init__(self, path: Path) -> None:
        self.path = path
        if not path.exists():
            path.write_bytes(bytes(_SIZE))
        with path.open("r+b") as file:
            self._map = mmap.mmap(file.fileno(), _SIZE)

    def shift_clock(self, shift_s: float) -> None:
        """Show the process a clock that is ``shift_s`` ahead (negative: behind); 0 is the right time."""
        _SHIFT.pack_into(self._map, _SHIFT_AT, int(shift_s * 1_000_000))

    def delay_syncs(self, delay_s: float) -> None:
        """Make each fsync of the process take ``delay_s`` longer."""
        _DELAY.pack_into(self._map, _DELAY_AT, int(delay_s * 1_000))

    @property
    def engine(self) -> EngineFault:
        """The current engine fault."""
        return EngineFault(_ENGINE.unpack_from(self._map, _ENGINE_AT)[0])

    @engine.setter
    def engine(self, fault: EngineFault) -> None:
        _ENGINE.pack_into(self._map, _ENGINE_AT, fault)


def build_inject_library(folder: Path) -> Path | None:
    """Compile inject.c into ``folder``; return None without a compiler or LD_PRELOAD."""
    compiler = shutil.which("cc") or shutil.which("gcc")
    if compiler is None or sys.platform != "linux":
        return None
    library = folder / "inject.so"
    source = Path(__file__).with_name("inject.c")
    subprocess.run([compiler, "-shared", "-fPIC", "-O1", "-Wall", "-o", library, source, "-ldl"], check=True)
    return library
