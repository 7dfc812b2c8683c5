"""Finds the process that has the broker's file locked for writing, on systems that report it."""

from __future__ import annotations

import re
from pathlib import Path

_LOCKS = Path("/proc/locks")
_WRITE_LOCK_BYTE = 120
"""SQLite's lock for writing is this byte of the ``-shm`` file (its file format, section 2.2.1)."""
_LINE = re.compile(r"POSIX +ADVISORY +WRITE (?P<pid>\d+) \S+:(?P<inode>\d+) (?P<first>\d+) (?P<last>\d+|EOF)$")


def describe_holder(path: Path) -> str | None:
    """Return a text about the process that is writing to the broker file ``path`` now; None where it is not known.

    Reads the kernel's list. Testing the lock would take a file descriptor, and closing it would release this process'
    own locks.
    """
    try:
        inode = path.with_name(f"{path.name}-shm").stat().st_ino
        pids = [pid for line in _LOCKS.read_text().splitlines() if (pid := _holder(line, inode)) is not None]
    except OSError:
        return None
    return _describe(pids[0]) if pids else None


def _holder(line: str, inode: int) -> int | None:
    """Return the process id of one line when it is the wanted lock, and held rather than waited for."""
    found = _LINE.search(line)
    if found is None or int(found["inode"]) != inode or "->" in line:
        return None
    last = found["last"]
    held = int(found["first"]) <= _WRITE_LOCK_BYTE and (last == "EOF" or int(last) >= _WRITE_LOCK_BYTE)
    return int(found["pid"]) if held else None


def _describe(pid: int) -> str:
    try:
        _, _, rest = Path(f"/proc/{pid}/stat").read_text().rpartition(")")
    except OSError:
        return f"process {pid}"
    stopped = rest.split()[0] in {"T", "t"}
    return f"process {pid}" + (f", which is stopped: let it continue (kill -CONT {pid}) or end it" if stopped else "")
