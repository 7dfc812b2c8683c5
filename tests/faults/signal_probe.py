"""Stops commands at random moments of their start, as Ctrl-C, SIGTERM and `timeout` do, and looks at how they end.

`python -m tests.faults.signal_probe --count 50` prints each run, and which ended with a traceback, too late, or left a
process.
"""

from __future__ import annotations

import argparse
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import psutil

from infra.deploy.ports import free_ports
from tests.paths import ROOT

END_S = 60.0
"""How long a command may take to end; a busy machine needs some of it to close PostgreSQL."""
_LEFT_S = 10.0
WAYS = ("Ctrl-C", "SIGTERM", "timeout", "SIGKILL")


@dataclass(frozen=True, slots=True)
class Outcome:
    """Describes how one command ended."""

    command: str
    way: str
    after_s: float
    status: int | None
    """None: it did not end in time."""
    ended_s: float
    output: str
    left: tuple[str, ...]
    """The command lines of processes that still ran after it."""

    @property
    def problem(self) -> str | None:
        """What is wrong with it; None if nothing is."""
        if self.status is None:
            return f"did not end within {END_S:g} s"
        if self.left:
            return f"left {', '.join(self.left)}"
        # Python's own start, before a line of ours runs, can't be protected.
        if "Traceback" in self.output and (str(ROOT) in self.output or "site-packages" in self.output):
            return f"ended with a traceback: {self.output[-3000:]}"
        return None


def stop_at(arguments: Sequence[str], folder: Path, way: str, after_s: float) -> Outcome:
    """Run `standgale` with ``arguments`` in ``folder``, and stop it after ``after_s`` seconds in one of WAYS."""
    ports = free_ports(2)
    environment = {
        **os.environ,
        "PYTHONPATH": str(ROOT),
        "STANDGALE_DATA_DIR": str(folder / "data"),
        "STANDGALE_GATEWAY__PORT": str(ports[0]),
        "STANDGALE_TELEMETRY__HEALTH_PORT": str(ports[1]),
        "STANDGALE_DETECTOR__MEASURE_S": "0",
    }
    with (folder / "output").open("w+b") as output:
        process = subprocess.Popen(
            [sys.executable, "-P", "-m", "standgale", *arguments],
            cwd=folder,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            start_new_session=True,
        )
        try:
            process.wait(after_s)
        except subprocess.TimeoutExpired:
            _stop(process, way)
        begin = time.monotonic()
        status: int | None = None
        try:
            status = process.wait(END_S)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
        ended_s = time.monotonic() - begin
        left = _left(folder)
        output.seek(0)
        text = output.read().decode(errors="replace")
    return Outcome(" ".join(arguments), way, after_s, status, ended_s, text, left)


def _stop(process: subprocess.Popen[bytes], way: str) -> None:
    if way == "SIGKILL":
        process.kill()
    elif way == "Ctrl-C":
        os.killpg(process.pid, signal.SIGINT)
    else:
        process.terminate()
        if way == "timeout":  # it signals its child, and then the whole group
            os.killpg(process.pid, signal.SIGTERM)


def _left(folder: Path) -> tuple[str, ...]:
    """Return the processes of ``folder`` that do not end within some seconds; they are killed then."""
    deadline = time.monotonic() + _LEFT_S
    while (found := list(_of(folder))) and time.monotonic() < deadline:
        time.sleep(0.1)
    lines = []
    for each in found:
        try:
            lines.append(" ".join(each.cmdline())[:200])
            each.kill()
        except psutil.NoSuchProcess:
            continue
    return tuple(lines)


def _of(folder: Path) -> Sequence[psutil.Process]:
    found = []
    for each in psutil.process_iter():
        try:
            ours = any(str(folder) in word for word in each.cmdline()) or str(folder) in each.cwd()
        except (psutil.Error, OSError):
            continue
        if ours and each.pid != os.getpid():
            found.append(each)
    return found


def probe(
    commands: Sequence[Sequence[str]], count: int, longest_s: float, seed: int, show: bool = False
) -> list[Outcome]:
    """Stop ``commands`` in turn, ``count`` times together, each within ``longest_s`` of its start; return the outcomes.

    Each folder is used for several runs, so that starts also follow on runs that were killed.
    """
    choice = random.Random(seed)
    outcomes = []
    with tempfile.TemporaryDirectory(prefix="standgale-probe-", ignore_cleanup_errors=True) as home:
        for number in range(count):
            folder = Path(home) / f"run-{number // 4}"
            folder.mkdir(exist_ok=True)
            way, after_s = choice.choice(WAYS), choice.uniform(0.05, 1.0) ** 2 * longest_s
            outcome = stop_at(commands[number % len(commands)], folder, way, after_s)
            outcomes.append(outcome)
            if show:
                print(
                    f"{number:3} {outcome.command:40} {way:8} after {after_s:5.2f} s: status {outcome.status}, "
                    f"{outcome.ended_s:5.2f} s later; {outcome.problem or 'ok'}",
                    flush=True,
                )
    return outcomes


COMMANDS = (
    ("up",),
    ("demo", "--drones", "1", "--frames", "3", "--data-dir", "data"),
    ("device", "add", "drone-1"),
    ("up",),
    ("model", "list"),
    ("sink", "postgres"),
    ("detector",),
    ("gateway",),
    ("topics", "apply"),
    ("doctor",),
)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--count", type=int, default=50)
    parser.add_argument("--longest-s", type=float, default=12.0)
    parser.add_argument("--seed", type=int, default=1)
    given = parser.parse_args()
    outcomes = probe(COMMANDS, given.count, given.longest_s, given.seed, show=True)
    wrong = [each for each in outcomes if each.problem]
    print(
        f"{len(outcomes)} stops, {len(wrong)} with problems; statuses {dict(Counter(each.status for each in outcomes))}"
    )
    print(f"longest end {max(each.ended_s for each in outcomes):.1f} s")
    sys.exit(1 if wrong else 0)


if __name__ == "__main__":
    main()
