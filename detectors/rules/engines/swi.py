"""Runs programs in SWI-Prolog: one child process per program, which can open nothing once the program is loaded."""

from __future__ import annotations

import logging
import os
import re
import resource
import selectors
import shutil
import subprocess
import tempfile
import time
from functools import cache
from pathlib import Path

import psutil

from detectors.rules.engines.port import DONE, RulesEngineError, RulesLimits, RulesStoppedError, Stop, base_program
from infra.errors import SettingsError

logger = logging.getLogger(__name__)

_LOAD_S = 10.0
_VERSION_S = 10.0
_PIECE = 1 << 16
_MORE_CPU_S = 2
# Beside the stacks that a program may use: the machine itself, its libraries and its code.
_MACHINE_BYTES = 1 << 30
_OLDEST = 9
_NO_MEMORY = re.compile(r"resource_error\((?!no_more_files|max_files)")
_MAIN = """
:- set_prolog_flag(double_quotes, atom).
:- set_prolog_flag(unknown, error).
:- style_check(-singleton).
:- style_check(-discontiguous).
:- use_module(library(lists)).
:- use_module(library(apply)).
:- use_module(library(error)).
:- use_module(library(pairs)).
% What these load by themselves is loaded now: later no file can be opened.
:- list_to_set([a, a], _), subtract([a], [b], _), foldl(plus, [1], 0, _), max_list([1], _), last([1], _), plus(1, 2, _).
:- catch(atom_length(_, _), _, true), catch(atom_length(f(x), _), _, true).
:- dynamic 'all detections'/1, 'the frame'/1, 'trying rule'/2, 'the rule'/3.
'load' :- repeat, read(T), ( T == end_of_program -> ! ; assertz(T), fail ).
'main' :- 'load', put_char(user_output, '\\n'), write(done), nl,
    flush_output, repeat, ( 'decide on frame' -> flush_output ; halt ), fail.
"""


@cache
def _version(program: str) -> int:
    """Return the first number of the version of ``program``. Raises OSError, ValueError or SubprocessError."""
    shown = subprocess.run(  # noqa: S603 (a fixed argument)
        [program, "--version"], capture_output=True, text=True, timeout=_VERSION_S, check=True
    ).stdout
    match = re.search(r"version (\d+)", shown)
    if match is None:
        raise ValueError(f"{shown.strip()[:100]!r} names no version")
    return int(match.group(1))


def why_unavailable() -> str | None:
    """Return why SWI-Prolog cannot be used here, with what to do; None if it can."""
    program = shutil.which("swipl")
    if program is None:
        return "the program 'swipl' was not found; install it (Debian: apt-get install swi-prolog-nox)"
    try:
        version = _version(program)
    except (OSError, ValueError, subprocess.SubprocessError) as error:
        return f"{program} does not run: {error}; install it again"
    return None if version >= _OLDEST else f"{program} is version {version}, and {_OLDEST} or later is needed"


class SwiEngine:
    """Loads programs into child processes of SWI-Prolog."""

    name = "swi"

    def __init__(self) -> None:
        """Raises SettingsError when SWI-Prolog is not installed."""
        program = shutil.which("swipl")
        why = why_unavailable()
        if why is not None or program is None:
            raise SettingsError(f"rules cannot run in SWI-Prolog: {why}")
        self.program = program
        self.name = f"swi {_version(program)}"

    def load(self, program: str, limits: RulesLimits) -> SwiProgram:
        """See :class:`detectors.rules.engines.port.RulesEngine`."""
        loaded = SwiProgram(self.program, program, limits)
        loaded.start()
        return loaded

    def close(self) -> None:
        """See :class:`detectors.rules.engines.port.RulesEngine`."""


class SwiProgram:
    """Runs a program in a child process, which is started again after it was stopped."""

    def __init__(self, swipl: str, program: str, limits: RulesLimits) -> None:
        self._swipl = swipl
        self._program = program
        self._limits = limits
        self._child: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start the child and load the program. Raises RulesEngineError."""
        limits = self._limits
        with tempfile.TemporaryDirectory(prefix="standgale-rules-") as folder:
            main = Path(folder) / "main.pl"
            main.write_text(_MAIN, encoding="utf-8")
            command = [
                *(self._swipl, "-q", "-f", "none", "-F", "none", "--no-tty", "--no-packs", "--nosignals"),
                *(f"--stack-limit={limits.memory_bytes}", "--on-error=halt", "-g", "main", "-t", "halt", str(main)),
            ]
            environment = {"PATH": os.defpath, "LANG": "C.UTF-8", "LC_ALL": "C.UTF-8", "HOME": folder}
            self._child = subprocess.Popen(  # noqa: S603 (a fixed command)
                command,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                cwd="/",
                env=environment,
                start_new_session=True,
            )
            try:
                output = self._exchange(f"{base_program()}{self._program}\nend_of_program.\n", _LOAD_S)
            except RulesStoppedError as error:
                raise RulesEngineError(f"SWI-Prolog did not take a program: {error}; {error.output[-500:]}") from error
        if "error" in output.lower():
            self.close()
            raise RulesEngineError(f"SWI-Prolog did not take a program: {output.strip()[:500]}")
        self._confine(self._child.pid)

    def _confine(self, child: int) -> None:
        """Take from the child what it does not need any more: to open files and sockets, to write, to use memory."""
        resource.prlimit(child, resource.RLIMIT_NOFILE, (0, 0))
        resource.prlimit(child, resource.RLIMIT_FSIZE, (0, 0))
        resource.prlimit(child, resource.RLIMIT_CORE, (0, 0))
        memory = self._limits.memory_bytes + _MACHINE_BYTES
        resource.prlimit(child, resource.RLIMIT_AS, (memory, memory))

    def run(self, frame: str) -> str:
        """See :class:`detectors.rules.engines.port.RulesProgram`."""
        if self._child is None or self._child.poll() is not None:
            self.start()
        self._limit_cpu()
        output = self._exchange(frame, self._limits.seconds)
        if _NO_MEMORY.search(output):
            raise RulesStoppedError("memory", f"they needed more than {self._limits.memory_bytes >> 20} MB", output)
        return output

    def _limit_cpu(self) -> None:
        """Let the child end by itself when it computes on and this process is no longer there to end it."""
        child = self._child
        if child is None:
            return
        try:
            used = psutil.Process(child.pid).cpu_times()
            limit = int(used.user + used.system + self._limits.seconds) + _MORE_CPU_S
            resource.prlimit(child.pid, resource.RLIMIT_CPU, (limit, resource.RLIM_INFINITY))
        except (psutil.Error, OSError) as error:
            # It has ended, which the exchange reports.
            logger.debug("the time of the rules process is not limited: %s", error)

    def _exchange(self, given: str, seconds: float) -> str:
        """Write ``given`` to the child, and return what it writes up to ``done``; ends it when it does not come."""
        child = self._child
        assert child is not None
        assert child.stdin is not None
        assert child.stdout is not None
        end = time.monotonic() + seconds
        waiting, output = memoryview(given.encode()), bytearray()
        os.set_blocking(child.stdin.fileno(), False)
        with selectors.DefaultSelector() as ready:
            ready.register(child.stdout, selectors.EVENT_READ)
            ready.register(child.stdin, selectors.EVENT_WRITE)
            while not output.endswith(DONE.encode()):
                found = ready.select(max(0.0, end - time.monotonic()))
                if not found:
                    raise self._stopped("time", f"they were not done after {seconds:g} s", output)
                for key, _ in found:
                    if key.fileobj is child.stdin:
                        waiting = self._write(child.stdin.fileno(), waiting)
                        if not waiting:
                            ready.unregister(child.stdin)
                    else:
                        piece = os.read(child.stdout.fileno(), _PIECE)
                        output += piece
                        if not piece:
                            raise self._stopped("memory", "the process that ran them ended", output)
                if len(output) > self._limits.output_bytes:
                    raise self._stopped("output", f"they wrote more than {self._limits.output_bytes:,} bytes", output)
        return output.decode(errors="replace")

    @staticmethod
    def _write(descriptor: int, waiting: memoryview) -> memoryview:
        try:
            return waiting[os.write(descriptor, waiting[:_PIECE]) :]
        except BrokenPipeError:
            # The child has ended; what it wrote before is read, and then its end.
            return waiting[:0]

    def _stopped(self, why: Stop, text: str, output: bytearray) -> RulesStoppedError:
        self.close()
        return RulesStoppedError(why, text, output.decode(errors="replace"))

    def close(self) -> None:
        """End the child."""
        child, self._child = self._child, None
        if child is None:
            return
        child.kill()
        child.wait()
        for pipe in (child.stdin, child.stdout):
            if pipe is not None:
                pipe.close()
