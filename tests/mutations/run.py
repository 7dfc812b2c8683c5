"""Runs inputs in child processes: each has a limit of memory, and is ended when one input takes too long."""

from __future__ import annotations

import contextlib
import mmap
import multiprocessing
import os
import resource
import signal
import struct
import sys
import time
import traceback
from collections import Counter
from dataclasses import dataclass, field
from multiprocessing.connection import Connection, wait
from pathlib import Path
from random import Random
from typing import Final

from schemas.errors import StandgaleError
from tests.mutations.targets import TARGETS, OverMemoryError, Target, make_input, target_of

MEMORY_BYTES: Final = 256 << 20
"""How much one input may add to the memory of a process."""
HANG_S: Final = 20.0
"""After so many seconds of wall time on one input its process is ended."""
BLOCK: Final = 20_000
_PROGRESS: Final = struct.Struct("<q")
_LOOK_EVERY_S: Final = 0.5
_KEEP_PER_KIND: Final = 20
_REPEATS: Final = 3


@dataclass(frozen=True, slots=True)
class Failure:
    """Describes an input on which a target failed."""

    number: int
    target: str
    kind: str
    """foreign exception, time, memory, crash, or hang"""
    what: str


@dataclass(slots=True)
class Tally:
    """Counts inputs and failures."""

    inputs: Counter[str] = field(default_factory=Counter)
    refused: Counter[str] = field(default_factory=Counter)
    """Inputs for which one of Standgale's own errors was raised."""
    slowest_ms: dict[str, float] = field(default_factory=dict)
    failures: list[Failure] = field(default_factory=list)

    def add(self, other: Tally) -> None:
        """Add the counts of ``other``."""
        self.inputs += other.inputs
        self.refused += other.refused
        for name, value in other.slowest_ms.items():
            self.slowest_ms[name] = max(value, self.slowest_ms.get(name, 0.0))
        self.failures += other.failures

    def failed(self, kind: str) -> int:
        """Return how many inputs failed in this way."""
        return sum(failure.kind == kind for failure in self.failures)


def run_inputs(seed: int, numbers: range, tally: Tally, progress: mmap.mmap | None = None) -> None:
    """Run the inputs ``numbers`` in this process, and count them in ``tally``."""
    rng = Random()
    for number in numbers:
        if progress is not None:
            _PROGRESS.pack_into(progress, 0, number)
        target, data = make_input(rng, seed, number)
        name = target.name
        start = time.thread_time_ns()
        try:
            target.read(data)
        except StandgaleError:
            tally.refused[name] += 1
        except BaseException as error:  # noqa: BLE001 (what it looks for; libraries in Rust raise no Exception)
            memory = isinstance(error, MemoryError | OverMemoryError)
            last = traceback.extract_tb(error.__traceback__)[-1]
            what = f"{type(error).__name__}: {str(error)[:300]} ({Path(last.filename).name}:{last.lineno})"
            kind = "memory" if memory else "foreign exception"
            tally.failures.append(Failure(number, name, kind, what))
        took_ms = (time.thread_time_ns() - start) / 1e6
        tally.inputs[name] += 1
        if took_ms > tally.slowest_ms.get(name, 0.0):
            if took_ms > target.most_ms:
                # A machine under load makes a single measurement long; the input itself is slow each time.
                took_ms = min(took_ms, *(_again_ms(target, data) for _ in range(_REPEATS)))
            if took_ms > target.most_ms:
                tally.failures.append(Failure(number, name, "time", f"{took_ms:.0f} ms of {target.most_ms:g} ms"))
            tally.slowest_ms[name] = max(took_ms, tally.slowest_ms.get(name, 0.0))


def _again_ms(target: Target, data: bytes) -> float:
    """Return the CPU time of another run of the same input, in milliseconds."""
    start = time.thread_time_ns()
    with contextlib.suppress(Exception):
        target.read(data)
    return (time.thread_time_ns() - start) / 1e6


def run_in_processes(seed: int, numbers: range, processes: int, show: bool = False) -> Tally:
    """Run the inputs ``numbers`` in ``processes`` child processes; an input that ends one is a failure, too.

    Ctrl-C and SIGTERM end it early, with what was counted so far.
    """
    stopped: list[int] = []
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda received, _: stopped.append(received))
    total = Tally()
    context = multiprocessing.get_context("spawn")
    waiting = [range(at, min(at + BLOCK, numbers.stop)) for at in range(numbers.start, numbers.stop, BLOCK)][::-1]
    children: list[_Child] = []
    started = shown = time.monotonic()
    while (waiting or children) and not stopped:
        while waiting and len(children) < processes:
            children.append(_Child(context, seed, waiting))
        for connection in wait([child.connection for child in children], timeout=_LOOK_EVERY_S):
            child = next(one for one in children if one.connection is connection)
            known = len(total.failures)
            if not child.receive(total, waiting):
                children.remove(child)
            if show:
                for failure in total.failures[known:]:
                    print(f"{failure.number} {failure.target}: {failure.kind}: {failure.what}", file=sys.stderr)
        for child in children:
            child.end_when_hanging()
        if show and time.monotonic() - shown > 60:
            shown = time.monotonic()
            done = total.inputs.total()
            speed = done / (shown - started)
            print(f"{done} inputs, {speed:.0f} per second, {len(total.failures)} failures", file=sys.stderr, flush=True)
    for child in children:
        child.stop()
    return total


class _Child:
    """Is a child process that takes blocks of inputs, one after the other."""

    def __init__(self, context: multiprocessing.context.SpawnContext, seed: int, waiting: list[range]) -> None:
        self.connection, theirs = context.Pipe()
        descriptor = os.memfd_create("progress")
        os.truncate(descriptor, _PROGRESS.size)
        self._progress = mmap.mmap(descriptor, _PROGRESS.size)
        # No input yet: it loads the libraries first.
        _PROGRESS.pack_into(self._progress, 0, -1)
        path = f"/proc/{os.getpid()}/fd/{descriptor}"
        self._process = context.Process(target=_serve, args=(theirs, path, seed), daemon=True)
        self._process.start()
        theirs.close()
        self._descriptor = descriptor
        self._seen = (-1, time.monotonic())
        self._hung = False
        self._give(waiting)

    def _give(self, waiting: list[range]) -> bool:
        self._block = waiting.pop() if waiting else None
        self.connection.send(self._block)
        return self._block is not None

    def receive(self, total: Tally, waiting: list[range]) -> bool:
        """Take a result and give the next block; return False when the process has ended."""
        try:
            total.add(self.connection.recv())
        except (EOFError, ConnectionResetError):
            self._note_end(total, waiting)
            self._close()
            return False
        if self._give(waiting):
            return True
        self._close()
        return False

    def _note_end(self, total: Tally, waiting: list[range]) -> None:
        """Note the input that ended the process, and run the others of its block again."""
        self._process.join()
        assert self._block is not None
        (number,) = _PROGRESS.unpack_from(self._progress, 0)
        if number not in self._block:
            raise RuntimeError(f"a process ended with status {self._process.exitcode} before its first input")
        kind = "hang" if self._hung else "crash"
        what = f"more than {HANG_S:g} s" if self._hung else f"the process ended with status {self._process.exitcode}"
        total.failures.append(Failure(number, target_of(number).name, kind, what))
        waiting += [block for block in (range(number + 1, self._block.stop), range(self._block.start, number)) if block]

    def end_when_hanging(self) -> None:
        """Kill the process when it has been on the same input for ``HANG_S``."""
        (number,) = _PROGRESS.unpack_from(self._progress, 0)
        if number != self._seen[0]:
            self._seen = (number, time.monotonic())
        elif number >= 0 and time.monotonic() - self._seen[1] > HANG_S:
            self._hung = True
            self._process.kill()

    def stop(self) -> None:
        """End the process; the block it works on is not counted."""
        self._process.kill()
        self._close()

    def _close(self) -> None:
        self._process.join()
        self.connection.close()
        self._progress.close()
        os.close(self._descriptor)


def _serve(connection: Connection, progress_path: str, seed: int) -> None:
    """Run blocks of inputs until there is none; runs in a child process."""
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)
    with Path(progress_path).open("r+b") as file:
        progress = mmap.mmap(file.fileno(), _PROGRESS.size)
    # Decoders write a line about every damaged file.
    quiet = os.open(os.devnull, os.O_WRONLY)
    os.dup2(quiet, 2)
    # Everything is loaded and used once before the memory is limited.
    run_inputs(seed, range(2_000), Tally())
    resource.setrlimit(resource.RLIMIT_AS, (_virtual_bytes() + MEMORY_BYTES, resource.RLIM_INFINITY))
    while (block := connection.recv()) is not None:
        tally = Tally()
        run_inputs(seed, block, tally, progress)
        connection.send(tally)


def _virtual_bytes() -> int:
    pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[0])
    return pages * resource.getpagesize()


def write_failures(folder: Path, seed: int, tally: Tally) -> list[str]:
    """Write some failing inputs of every kind into ``folder``; return a line about each, with its command."""
    lines: list[str] = []
    kept: Counter[tuple[str, str]] = Counter()
    rng = Random()
    for failure in tally.failures:
        group = (failure.target, failure.what[:60] if failure.kind == "foreign exception" else failure.kind)
        kept[group] += 1
        if kept[group] > _KEEP_PER_KIND:
            continue
        folder.mkdir(parents=True, exist_ok=True)
        path = folder / f"{failure.target.replace(' ', '-')}-{failure.number}.bin"
        path.write_bytes(make_input(rng, seed, failure.number)[1])
        lines.append(
            f"{failure.target}: {failure.kind}: {failure.what}\n    {path}\n"
            f"    python -m tests.mutations --seed {seed} --only {failure.number}"
        )
    return lines


def table(tally: Tally) -> list[str]:
    """Return the counts of every target as lines of text."""
    lines = [f"{'target':<20}{'inputs':>10}{'refused':>10}{'slowest ms':>12}{'bound ms':>10}{'failures':>10}"]
    for target in TARGETS:
        failed = sum(failure.target == target.name for failure in tally.failures)
        lines.append(
            f"{target.name:<20}{tally.inputs[target.name]:>10}{tally.refused[target.name]:>10}"
            f"{tally.slowest_ms.get(target.name, 0.0):>12.1f}{target.most_ms:>10g}{failed:>10}"
        )
    over = tally.failed("time") + tally.failed("memory") + tally.failed("hang")
    lines.append(
        f"{tally.inputs.total()} inputs, {tally.failed('foreign exception')} foreign exceptions, {over} above their "
        f"time or memory bound, {tally.failed('crash')} crashes"
    )
    return lines
