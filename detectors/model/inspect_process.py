"""Inspects an ONNX file in a separate process with limits, because a strange file may run for ever or fill memory."""

from __future__ import annotations

import logging
import multiprocessing
import resource
import signal
from collections.abc import Callable
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from pathlib import Path

from detectors.card.card import Layout
from detectors.engines.memory_fit import available_bytes, weights_bytes
from detectors.errors import ModelLoadError
from detectors.model.inspect import Inspection, inspect_model
from detectors.settings import EngineKind
from infra.process.safe_path import children_with_safe_path

CPU_S = 60.0
"""How much CPU time a small file gets; a first run takes a second."""
CPU_S_PER_GIB = 300.0
"""How much more a file gets for each GiB of weights."""
_WALL = 4.0
"""On a busy machine the process may take this many times its CPU time."""
_ENDING_S = 10.0
_GIB = 1 << 30
# Libraries reserve addresses that they never use.
_RESERVED_BYTES = 4 * _GIB
_LARGEST_BYTES = 16 * _GIB
_COPIES_OF_WEIGHTS = 6


@dataclass(frozen=True, slots=True)
class InspectRequest:
    """Says which file to inspect; the fields are the arguments of :func:`detectors.model.inspect.inspect_model`."""

    path: Path
    layout: Layout | None = None
    names: tuple[str, ...] = ()
    size: tuple[int, int] | None = None
    engine: EngineKind = "auto"
    name: str | None = None


def inspect_in_process(
    wanted: InspectRequest, cpu_s: float | None = None, run: Callable[[InspectRequest], Inspection] | None = None
) -> Inspection:
    """Inspect the file of ``wanted`` in a process that may use ``cpu_s`` seconds of CPU time; None: by its size.

    ``run``: what inspects it there. Raises ModelLoadError as ``inspect_model`` does, and when the process takes longer,
    needs more memory than there is, or crashes.
    """
    weights = weights_bytes(wanted.path) if wanted.path.is_file() else 0
    limit_s = cpu_s or CPU_S + CPU_S_PER_GIB * weights / _GIB
    memory = min(available_bytes() + _RESERVED_BYTES, _LARGEST_BYTES + _COPIES_OF_WEIGHTS * weights)
    # A forked child would have locks of threads that do not exist there.
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe(duplex=False)
    child = context.Process(target=_inspect, args=(theirs, wanted, limit_s, memory, run or _run), daemon=True)
    with children_with_safe_path():
        child.start()
    theirs.close()
    try:
        is_in_time = bool(wait([ours, child.sentinel], limit_s * _WALL))
        found = _received(ours)
        if found is None:
            # One that has closed its end is about to end, and its status says why.
            child.join(_ENDING_S if is_in_time else 0.0)
    finally:
        child.kill()
        child.join()
        ours.close()
    if isinstance(found, Inspection):
        return found
    raise ModelLoadError(found or _why_ended(wanted.path, child.exitcode, limit_s))


def _received(ours: Connection) -> Inspection | str | None:
    """Return what the process sent, or None when it ended without."""
    try:
        sent: Inspection | str | None = ours.recv() if ours.poll() else None
    except EOFError:
        return None
    return sent


def _run(wanted: InspectRequest) -> Inspection:
    return inspect_model(wanted.path, wanted.layout, wanted.names, wanted.size, wanted.engine, wanted.name)


def _inspect(
    theirs: Connection, wanted: InspectRequest, cpu_s: float, memory: int, run: Callable[[InspectRequest], Inspection]
) -> None:
    """Inspect in this process, and send what was found, or the text of the error."""
    # Ctrl-C reaches the parent too, which ends this process.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    # What engines log is in the error.
    logging.getLogger().addHandler(logging.NullHandler())
    _limit(resource.RLIMIT_CPU, int(cpu_s) or 1, int(cpu_s) + 1)
    _limit(resource.RLIMIT_AS, memory, memory)
    _limit(resource.RLIMIT_CORE, 0, 0)
    sent: Inspection | str
    try:
        sent = run(wanted)
    except ModelLoadError as error:
        sent = str(error)
    except MemoryError:
        sent = f"{wanted.path} needs more memory in its first run than there is ({memory / _GIB:.1f} GiB)"
    theirs.send(sent)
    theirs.close()


def _limit(kind: int, soft: int, hard: int) -> None:
    """Set the limits of this process; lower ones that a person has set (ulimit) stay."""
    _, least = resource.getrlimit(kind)
    if least != resource.RLIM_INFINITY:
        soft, hard = min(soft, least), min(hard, least)
    resource.setrlimit(kind, (soft, hard))


def _why_ended(path: Path, status: int | None, cpu_s: float) -> str:
    """Return what the exit ``status`` of the process means."""
    if status in (-signal.SIGXCPU, -signal.SIGKILL):
        return (
            f"{path} was not inspected within {cpu_s:.0f} s of CPU time, far more than a first run takes: its graph "
            "runs for ever or is far too large; do not use it, or export it again"
        )
    how = f"status {status}" if status is None or status >= 0 else signal.Signals(-status).name
    return (
        f"{path} ended the process in which it was inspected ({how}): it crashes the engine or needs too much memory; "
        "try another engine (detector.engine), or export it again"
    )
