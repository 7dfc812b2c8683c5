"""Names the process that holds the broker's file locked for writing, where the system tells."""

from __future__ import annotations

import re
from pathlib import Path

_LOCKS = Path("/proc/locks")
_WRITE_LOCK_BYTE = 120
"""SQLite's lock for writing is this byte of the ``-shm`` file (its file format, section 2.2.1)."""
_LINE = re.compile(r"POSIX +ADVISORY +WRITE (?P<pid>\d+) \S+:(?P<inode>\d+) (?P<first>\d+) (?P<last>\d+|EOF)$")


def describe_holder(path: Path) -> str | None:
    """Name the process that is writing to the broker file ``path`` now; None where that is not to be found out.

    Reads the kernel's list. Asking for the lock itself would take a file descriptor, and closing that one would drop
    this process' own locks.
    """
    try:
        inode = path.with_name(f"{path.name}-shm").stat().st_ino
        pids = [pid for line in _LOCKS.read_text().splitlines() if (pid := _holder(line, inode)) is not None]
    except OSError:
        return None
    return _describe(pids[0]) if pids else None


def _holder(line: str, inode: int) -> int | None:
    """The process of one line, when that is the wanted lock and it is held, not waited for."""
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
    return f"process {pid}" + (f", which is stopped: let it go on (kill -CONT {pid}) or end it" if stopped else "")
