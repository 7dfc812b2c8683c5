"""Forks processes from one that has imported everything, which saves each of them a second of processor time or more.

Each process of the tests has one such server, which forks for each order. Forks are for what happens to a process that
runs: it is stopped, killed or frozen. What the start itself does is tested with real ones.
"""

from __future__ import annotations

import atexit
import gc
import json
import os
import runpy
import selectors
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Mapping, Sequence
from contextlib import suppress
from functools import cache
from importlib import import_module
from pathlib import Path
from typing import Any

from tests.paths import ROOT

# What services, their stores and the modules that tests run import when they start or with their first work. Not
# onnxruntime: it starts a thread, and a fork has only the thread that forked.
_IMPORTED = (
    *("standgale.cli", "standgale.commands.services", "standgale.commands.sink", "standgale.services.preflight"),
    *("standgale.services.run", "infra.process.service", "infra.broker.embedded.adapter", "infra.broker.kafka.adapter"),
    *("aiobotocore.session", "aiomqtt", "uvicorn", "uvloop", "ingest.edge.run", "ingest.replay.replay"),
    *("tests.servers.gateway", "tests.harnesses.job_site", "tests.harnesses.stand_in_detector"),
)


class ForkedProcess:
    """Runs `standgale`, or another module, in a process of its own; has what tests use of subprocess.Popen.

    ``environment`` is all that the process has of it; what Python and the dynamic linker read at their start, such as
    PYTHONPATH, has no effect. What the process prints is added to ``log``; None: it is part of what the tests print.
    """

    def __init__(
        self,
        arguments: Sequence[str],
        environment: Mapping[str, str],
        log: Path | None,
        *,
        module: str = "standgale",
    ) -> None:
        self.returncode: int | None = None
        self._pid = 0
        self._command = " ".join((module, *arguments))
        self._started, self._ended = threading.Event(), threading.Event()
        order = {
            "module": module,
            "arguments": list(arguments),
            "environment": dict(environment),
            "log": None if log is None else str(log.absolute()),
            "folder": str(Path.cwd()),
        }
        _client().start(self, order)

    @property
    def pid(self) -> int:
        """Its number; waits until it has one, which takes seconds when the server has just been started."""
        self._started.wait()
        assert self._pid, "the server of forked processes has ended"
        return self._pid

    def poll(self) -> int | None:
        return self.returncode

    def wait(self, timeout: float | None = None) -> int:
        """Return the exit status, which is negative for a signal; raise TimeoutExpired if it does not end in time."""
        if not self._ended.wait(timeout):
            raise subprocess.TimeoutExpired(self._command, timeout or 0.0)
        assert self.returncode is not None, "the server of forked processes has ended"
        return self.returncode

    def send_signal(self, number: int) -> None:
        pid = self.pid
        if self.returncode is None:
            # It may have ended just now.
            with suppress(ProcessLookupError):
                os.kill(pid, number)

    def kill(self) -> None:
        self.send_signal(signal.SIGKILL)

    def terminate(self) -> None:
        self.send_signal(signal.SIGTERM)

    def note_started(self, pid: int) -> None:
        self._pid = pid
        self._started.set()

    def note_ended(self, status: int | None) -> None:
        self.returncode = status
        self._started.set()
        self._ended.set()


class _Client:
    """Sends orders to a server, and notes what it reports."""

    def __init__(self) -> None:
        here, there = socket.socketpair()
        with there:
            command = [sys.executable, "-P", "-m", "tests.faults.forked", str(there.fileno())]
            # OpenBLAS, which numpy and OpenCV each bring, starts threads when it is loaded.
            environment = {**os.environ, "PYTHONPATH": str(ROOT), "OPENBLAS_NUM_THREADS": "1"}
            self._server = subprocess.Popen(command, pass_fds=(there.fileno(),), cwd=ROOT, env=environment)
        self._socket = here
        self._lock = threading.Lock()
        self._processes: dict[int, ForkedProcess] = {}
        threading.Thread(target=self._read, name="forked processes", daemon=True).start()
        atexit.register(self._close)

    def start(self, process: ForkedProcess, order: dict[str, Any]) -> None:
        with self._lock:
            number = len(self._processes)
            self._processes[number] = process
            self._socket.sendall(json.dumps({**order, "number": number}).encode() + b"\n")

    def _read(self) -> None:
        for line in self._socket.makefile("rb"):
            report = json.loads(line)
            process = self._processes[report["number"]]
            if "pid" in report:
                process.note_started(report["pid"])
            else:
                process.note_ended(report["status"])
        for process in self._processes.values():
            if process.returncode is None:
                process.note_ended(None)

    def _close(self) -> None:
        self._socket.shutdown(socket.SHUT_RDWR)
        self._server.wait()


@cache
def _client() -> _Client:
    return _Client()


class _Server:
    """Forks for each order, and reports process ids and exit statuses."""

    def __init__(self, orders: socket.socket) -> None:
        self._socket = orders
        self._numbers: dict[int, int] = {}
        self._buffer = b""

    def run(self) -> dict[str, Any] | None:
        """Serve until the client has gone, and kill what it has left; in a child return its order."""
        ended, wake_up = os.pipe()
        for end in (ended, wake_up):
            os.set_blocking(end, False)
        signal.set_wakeup_fd(wake_up, warn_on_full_buffer=False)
        signal.signal(signal.SIGCHLD, lambda number, frame: None)
        # Ctrl-C in a terminal goes to all processes; this one ends with its client.
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        with selectors.DefaultSelector() as selector:
            selector.register(ended, selectors.EVENT_READ)
            selector.register(self._socket, selectors.EVENT_READ)
            while True:
                for key, _ in selector.select():
                    if key.fileobj == ended:
                        os.read(ended, 4096)
                        self._report_ended()
                        continue
                    received = self._socket.recv(1 << 16)
                    if not received:
                        for pid in self._numbers:
                            os.kill(pid, signal.SIGKILL)
                        return None
                    *lines, self._buffer = (self._buffer + received).split(b"\n")
                    for line in lines:
                        order: dict[str, Any] = json.loads(line)
                        if self._is_child(order["number"]):
                            selector.close()
                            for end in (ended, wake_up):
                                os.close(end)
                            return order

    def _is_child(self, number: int) -> bool:
        pid = os.fork()
        if pid == 0:
            signal.set_wakeup_fd(-1)
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
            signal.signal(signal.SIGINT, signal.default_int_handler)
            self._socket.close()
            return True
        self._numbers[pid] = number
        self._report(number=number, pid=pid)
        return False

    def _report_ended(self) -> None:
        while self._numbers:
            pid, status = os.waitpid(-1, os.WNOHANG)
            if pid == 0:
                return
            self._report(number=self._numbers.pop(pid), status=os.waitstatus_to_exitcode(status))

    def _report(self, **report: int) -> None:
        self._socket.sendall(json.dumps(report).encode() + b"\n")


def _become(order: dict[str, Any]) -> None:
    """Take over what the process of ``order`` has: environment, folder, files, arguments."""
    os.environ.clear()
    os.environ.update(order["environment"])
    os.chdir(order["folder"])
    files = [(os.open(os.devnull, os.O_RDONLY), 0)]
    if order["log"] is not None:
        log = os.open(order["log"], os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
        files += [(log, 1), (log, 2)]
    for file, number in files:
        os.dup2(file, number)
    for file in {file for file, _ in files}:
        os.close(file)
    sys.argv[1:] = order["arguments"]


def main() -> None:
    """Import everything, and serve the orders that come through the socket with the given file number."""
    for name in _IMPORTED:
        import_module(name)
    assert len(list(Path("/proc/self/task").iterdir())) == 1, "an import has started a thread"
    gc.collect()
    gc.freeze()
    with socket.socket(fileno=int(sys.argv[1])) as orders:
        order = _Server(orders).run()
    if order is not None:
        _become(order)
        runpy.run_module(order["module"], run_name="__main__", alter_sys=True)


if __name__ == "__main__":
    main()
