"""Runs programs in Trealla Prolog, compiled to WebAssembly, under wasmtime: no files, no network, bounded memory.

A program is loaded once. What that changed in the memory of the machine is kept, so that a new machine begins at once
with these changes: after a run that was stopped, and after many runs.
"""

from __future__ import annotations

import hashlib
import logging
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from detectors.rules.engines.port import DONE, RulesEngineError, RulesLimits, RulesStoppedError, base_program
from detectors.rules.engines.wasm_host import EndedError, Exchange, define_host, set_exchange
from infra.errors import SettingsError
from infra.extras import install_extra
from infra.written_files import write_whole

if TYPE_CHECKING:
    from wasmtime import Engine, InstancePre, Module, Trap

logger = logging.getLogger(__name__)

NAME = "trealla 0.17.10"
MODULE = Path(__file__).resolve().parent / "module" / "trealla.wasm"
"""Written by ``detectors/rules/engines/module/build.py``."""
MODULE_SHA256 = "5d6fcf41b960b9ce1b3bab65acf25f02b531c880c9dc31eab8c58409caf7cf60"
_PAGE = 4096
_WASM_PAGE = 65536
# Loading reads every clause by itself.
_LOAD_S = 5.0
_RUNS_PER_MACHINE = 200
# A clock beside the limit of steps stops what waits; so often it looks.
_TICK_S = 0.02
# So many steps take about a second on a slow core: the limit that is the same on every machine.
_STEPS_PER_S = 2_500_000_000
# On a busy machine steps take longer; the clock allows that much more, within so many seconds.
_SLOWER, _LONGEST_S = 3.0, 0.4
_COMPILED_AS = "no-signals"
# Memory grows in steps; one that was refused was no larger than this, with programs that grow it little by little.
_NEAR_LIMIT_BYTES = 32 << 20
_ERROR = "error("
_LOAD = "\\+ \\+ (repeat, read(T), ( T == end_of_program -> ! ; assertz(T), fail ))."
_RUN = "'decide on frame'."


def why_unavailable() -> str | None:
    """Return why Trealla cannot be used here, with what to do; None if it can."""
    try:
        import wasmtime  # noqa: F401, PLC0415 (an extra)
    except ImportError:
        return f"the library 'wasmtime' is not installed; {install_extra('rules')}"
    if not MODULE.is_file():
        return (
            f"{MODULE} is not there: it comes from npm when Standgale is built; install npm, and run "
            "`make rules-engine` in the checkout or install Standgale again"
        )
    return None


@dataclass(frozen=True, slots=True)
class _Changes:
    """What loading a program changed in the memory of a new machine: pages by number."""

    size_bytes: int
    numbers: NDArray[np.intp]
    pages: NDArray[np.uint8]
    prolog: int
    """The address of the interpreter."""

    def apply_to(self, machine: _Machine) -> None:
        """Make these changes in a new ``machine``."""
        machine.write_pages(self.size_bytes, self.numbers, self.pages)
        machine.prolog = self.prolog


class TreallaEngine:
    """Loads programs into Trealla."""

    name = NAME

    def __init__(self, cache: Path | None = None) -> None:
        """``cache``: a folder where the compiled machine is kept, which saves seconds; None keeps none.

        Raises SettingsError when Trealla is not installed, RulesEngineError when its module is not the known one.
        """
        if (why := why_unavailable()) is not None:
            raise SettingsError(f"rules cannot run in Trealla: {why}")
        import wasmtime  # noqa: PLC0415

        content = MODULE.read_bytes()
        if hashlib.sha256(content).hexdigest() != MODULE_SHA256:
            raise RulesEngineError(f"{MODULE} is not that of {NAME}; delete it and run `make rules-engine` again")
        config = wasmtime.Config()
        config.consume_fuel = True
        config.epoch_interruption = True
        # Else a trap is a signal, and where another library has taken that signal the process would end. It costs a
        # fifth of the speed.
        config.signals_based_traps = False
        self._engine = wasmtime.Engine(config)
        self._module = _compiled(self._engine, content, cache)
        linker = wasmtime.Linker(self._engine)
        define_host(linker, self._module)
        self._new = linker.instantiate_pre(self._module)
        self._clock = _Clock(self._engine)
        self._lock = threading.Lock()
        self._base: _Changes | None = None
        self._new_memory = np.zeros(0, np.uint8)

    def load(self, program: str, limits: RulesLimits) -> TreallaProgram:
        """See :class:`detectors.rules.engines.port.RulesEngine`."""
        with self._lock:
            if self._base is None:
                self._new_memory = self.machine(limits).copied_memory()
                self._base = self._loaded(None, base_program(), limits)
        return TreallaProgram(self, limits, self._loaded(self._base, program, limits))

    def _loaded(self, before: _Changes | None, program: str, limits: RulesLimits) -> _Changes:
        """Return the changes of a machine that has loaded ``program``, which began with the changes ``before``."""
        machine = self.machine(limits)
        if before is None:
            machine.start()
        else:
            before.apply_to(machine)
        output = machine.evaluate(_LOAD, f"{program}\nend_of_program.\n", limits, _LOAD_S)
        if _ERROR in output:
            raise RulesEngineError(f"{self.name} did not take a program: {output.strip()[:500]}")
        after = machine.copied_memory()
        new = np.zeros(len(after), np.uint8)
        new[: len(self._new_memory)] = self._new_memory
        numbers = np.flatnonzero((new != after).reshape(-1, _PAGE).any(axis=1))
        return _Changes(len(after), numbers, after.reshape(-1, _PAGE)[numbers].copy(), machine.prolog)

    def machine(self, limits: RulesLimits) -> _Machine:
        """Return a new machine."""
        return _Machine(self._engine, self._new, self._clock, limits)

    def close(self) -> None:
        """See :class:`detectors.rules.engines.port.RulesEngine`."""
        self._clock.close()


class TreallaProgram:
    """Runs a program in a machine that is replaced now and then, and after everything that went wrong."""

    def __init__(self, engine: TreallaEngine, limits: RulesLimits, changes: _Changes) -> None:
        self._engine = engine
        self._limits = limits
        self._changes = changes
        self._machine: _Machine | None = None
        self._runs = 0

    def run(self, frame: str) -> str:
        """See :class:`detectors.rules.engines.port.RulesProgram`."""
        if self._runs >= _RUNS_PER_MACHINE:
            self._machine = None
        machine, self._machine = self._machine or self._new_machine(), None
        output = machine.evaluate(_RUN, frame, self._limits, self._limits.seconds)
        if not output.endswith(DONE):
            # Without memory Trealla ends a query without a word.
            raise machine.out_of_memory(self._limits, output)
        self._machine = machine
        self._runs += 1
        return output

    def _new_machine(self) -> _Machine:
        machine = self._engine.machine(self._limits)
        self._changes.apply_to(machine)
        self._runs = 0
        return machine

    def close(self) -> None:
        """See :class:`detectors.rules.engines.port.RulesProgram`."""
        self._machine = None


class _Machine:
    """One instance of the module: a memory of its own, and the functions of Trealla."""

    def __init__(self, engine: Engine, new: InstancePre, clock: _Clock, limits: RulesLimits) -> None:
        import wasmtime  # noqa: PLC0415

        self._store = wasmtime.Store(engine)
        self._store.set_limits(memory_size=limits.memory_bytes)
        self._clock = clock
        self._allow(_LOAD_S)
        self._exports = new.instantiate(self._store).exports(self._store)
        self.prolog = 0

    @property
    def size_bytes(self) -> int:
        """How large the memory is."""
        memory: Any = self._exports["memory"]
        return int(memory.data_len(self._store))

    def copied_memory(self) -> NDArray[np.uint8]:
        """Return a copy of the memory; a view of it must not outlive the machine."""
        return self._memory().copy()

    def _memory(self) -> NDArray[np.uint8]:
        memory: Any = self._exports["memory"]
        return np.frombuffer(memory.get_buffer_ptr(self._store), np.uint8)

    def write_pages(self, size_bytes: int, numbers: NDArray[np.intp], pages: NDArray[np.uint8]) -> None:
        """Make the memory at least so large, and write ``pages`` over those with these ``numbers``."""
        memory: Any = self._exports["memory"]
        missing = size_bytes - self.size_bytes
        if missing > 0:
            memory.grow(self._store, missing // _WASM_PAGE)
        self._memory().reshape(-1, _PAGE)[numbers] = pages

    def start(self) -> None:
        """Start the interpreter."""
        set_exchange(Exchange())
        self._call("pl_global_init")
        self.prolog = self._call("pl_global")

    def _allow(self, seconds: float) -> None:
        """Let the machine run for so long from now on: in steps, and by the clock where steps take too long."""
        self._store.set_fuel(int(seconds * _STEPS_PER_S))
        self._store.set_epoch_deadline(self._clock.ticks(min(seconds * _SLOWER, max(seconds, _LONGEST_S))))

    def evaluate(self, goal: str, given: str, limits: RulesLimits, seconds: float) -> str:
        """Return what ``goal`` writes when ``given`` is its input. Raises as ``RulesProgram.run``."""
        import wasmtime  # noqa: PLC0415

        exchange = Exchange(given.encode(), limits.output_bytes)
        set_exchange(exchange)
        self._allow(seconds)
        try:
            with self._clock.running():
                self._call("pl_eval", self.prolog, self._text(goal), 0)
        except EndedError as error:
            if exchange.overflowed:
                text = f"they wrote more than {limits.output_bytes:,} bytes"
                raise RulesStoppedError("output", text, _text_of(exchange)) from error
            raise RulesEngineError(f"{NAME} ended: {_text_of(exchange)[-500:]}") from error
        except wasmtime.Trap as trap:
            raise self._stopped(trap, exchange, limits, seconds) from trap
        except wasmtime.WasmtimeError as error:
            raise RulesEngineError(f"{NAME} failed: {str(error).splitlines()[0]}") from error
        finally:
            set_exchange(Exchange())
        return _text_of(exchange)

    def _stopped(
        self, trap: Trap, exchange: Exchange, limits: RulesLimits, seconds: float
    ) -> RulesStoppedError | RulesEngineError:
        import wasmtime  # noqa: PLC0415

        output = _text_of(exchange)
        if trap.trap_code in (wasmtime.TrapCode.OUT_OF_FUEL, wasmtime.TrapCode.INTERRUPT):
            return RulesStoppedError("time", f"they were not done after {seconds:g} s", output)
        return self.out_of_memory(limits, output)

    def out_of_memory(self, limits: RulesLimits, output: str) -> RulesStoppedError | RulesEngineError:
        """Return the error of a run that ended before its end and wrote ``output``."""
        if limits.memory_bytes - self.size_bytes < _NEAR_LIMIT_BYTES:
            return RulesStoppedError("memory", f"they needed more than {limits.memory_bytes >> 20} MB", output)
        if _ERROR in output:
            return RulesEngineError(f"{NAME} failed: {output.strip()[-500:]}")
        return RulesStoppedError("memory", "they needed more memory than the engine's stack has", output)

    def _text(self, text: str) -> int:
        """Put ``text`` into the memory, and return its address."""
        data = text.encode() + b"\0"
        address = self._call("canonical_abi_realloc", 0, 0, 1, len(data))
        memory: Any = self._exports["memory"]
        memory.write(self._store, bytearray(data), address)
        return address

    def _call(self, name: str, *arguments: int) -> int:
        function: Any = self._exports[name]
        result = function(self._store, *arguments)
        return 0 if result is None else int(result)


class _Clock:
    """Counts ticks while something runs, so that what takes too long is interrupted."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._running = 0
        self._changed = threading.Condition()
        self._closed = False
        threading.Thread(target=self._tick, name="rules-clock", daemon=True).start()

    @staticmethod
    def ticks(seconds: float) -> int:
        """Return how many ticks ``seconds`` are, and one more, because the first one may come at once."""
        return int(seconds / _TICK_S) + 2

    @contextmanager
    def running(self) -> Iterator[None]:
        """Let the clock run during the block."""
        with self._changed:
            self._running += 1
            self._changed.notify()
        try:
            yield
        finally:
            with self._changed:
                self._running -= 1

    def close(self) -> None:
        with self._changed:
            self._closed = True
            self._changed.notify()

    def _tick(self) -> None:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._running or self._closed)
                if self._closed:
                    return
            start = time.monotonic()
            time.sleep(_TICK_S)
            # On a busy machine a sleep takes longer than asked.
            for _ in range(max(1, int((time.monotonic() - start) / _TICK_S))):
                self._engine.increment_epoch()


def _text_of(exchange: Exchange) -> str:
    return exchange.output.decode(errors="replace")


def _compiled(engine: Engine, content: bytes, cache: Path | None) -> Module:
    """Return the module, compiled; from ``cache`` where it is there for this version of wasmtime."""
    import wasmtime  # noqa: PLC0415

    path = (
        None
        if cache is None
        else cache / f"trealla-{MODULE_SHA256[:16]}-{_COMPILED_AS}-wasmtime-{version('wasmtime')}.compiled"
    )
    if path is not None and path.is_file():
        try:
            return wasmtime.Module.deserialize(engine, path.read_bytes())
        except (OSError, wasmtime.WasmtimeError) as error:
            logger.warning("the compiled rules engine is not usable and made again: %s", error)
    module = wasmtime.Module(engine, content)
    if path is not None:
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            write_whole(path, bytes(module.serialize()))
        except OSError as error:
            logger.warning("the compiled rules engine is not kept, so the next start takes longer: %s", error)
    return module
