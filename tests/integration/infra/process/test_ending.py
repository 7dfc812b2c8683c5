"""Signals and closed streams from the first line of a program on, in real processes."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from infra.process.ending import exit_at_signals
from tests.paths import ROOT

_START = """
import sys, time
from infra.process.ending import end_at_signals, exit_at_signals
from infra.process.run_until_signal import run_until_signal
import asyncio

async def work():
    try:
        print("ready", flush=True)
        await asyncio.sleep(60)
    finally:
        await asyncio.sleep(0.2)
        print("closed", flush=True)

end_at_signals()
{what}
"""
_CASES = {
    "nothing is open": ("print('ready', flush=True); time.sleep(60)", ""),
    "asynchronous work is closed": ("run_until_signal(work())", "closed\n"),
    "cleanups run": (
        "with exit_at_signals():\n    try:\n        print('ready', flush=True); time.sleep(60)\n"
        "    finally:\n        time.sleep(0.2); print('closed', flush=True)",
        "closed\n",
    ),
}


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize("case", _CASES)
def test_two_signals_at_once_run_cleanups_and_print_no_traceback(case: str, number: signal.Signals) -> None:
    what, closed = _CASES[case]
    code = _START.replace("{what}", what)
    with subprocess.Popen(
        [sys.executable, "-c", code], cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        process.send_signal(number)
        process.send_signal(number)
        output, errors = process.communicate(timeout=30)
    assert (output, errors, process.returncode) == (closed, "", 128 + number)


def test_end_of_input_stops_a_process_whose_parent_has_gone() -> None:
    what = "from infra.process.stopping import stop_at_end_of_input; stop_at_end_of_input(); run_until_signal(work())"
    code = _START.replace("{what}", what)
    with subprocess.Popen(
        [sys.executable, "-c", code], cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        output, _ = process.communicate(timeout=30)  # closes its input
    assert (output, process.returncode) == ("closed\n", 128 + signal.SIGTERM)


@pytest.mark.parametrize(
    ("streams", "status", "words"),
    [
        (">&-", 0, ""),
        (">&- 2>&- <&-", 0, ""),
        ("| head -c 1 >/dev/null", None, ""),
        (">/dev/full", 2, "error DISK_FULL: No space left on device; free some space, and run the command again\n"),
    ],
)
def test_output_that_is_closed_or_full_gives_no_traceback(
    streams: str, status: int | None, words: str, tmp_path: Path
) -> None:
    command = f"{sys.executable} -P -m standgale settings {streams}; echo ${{PIPESTATUS[0]}} >status"
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        ["bash", "-c", command], cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=60, check=False
    )
    assert done.stderr == words
    if status is not None:
        assert (tmp_path / "status").read_text() == f"{status}\n"


def test_an_error_made_of_the_signal_by_other_code_ends_like_the_signal() -> None:
    former = signal.getsignal(signal.SIGTERM)
    with pytest.raises(SystemExit) as ended, exit_at_signals():
        try:
            os.kill(os.getpid(), signal.SIGTERM)
            time.sleep(5)
        except SystemExit:
            # As modules in C do that are interrupted in their import.
            raise ImportError("initialization failed") from None
    assert ended.value.code == 128 + signal.SIGTERM
    assert signal.getsignal(signal.SIGTERM) is former
    with pytest.raises(ImportError, match="of its own"), exit_at_signals():
        raise ImportError("of its own")


def test_a_signal_that_the_parent_has_switched_off_stays_off_in_a_block() -> None:
    former = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        with exit_at_signals():
            os.kill(os.getpid(), signal.SIGINT)
            assert signal.getsignal(signal.SIGINT) is signal.SIG_IGN
    finally:
        signal.signal(signal.SIGINT, former)
