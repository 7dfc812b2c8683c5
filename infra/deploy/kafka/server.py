"""Runs one Apache Kafka node (KRaft) as a process of this machine: starts, stops, kills and freezes it."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import time
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import Self

import psutil

from infra.deploy.kafka.causes import explain
from infra.deploy.kafka.config import LOGGING, PROPERTIES, client_address, format_options, write_configs
from infra.deploy.kafka.errors import KafkaServerError
from infra.deploy.kafka.files import HOME_OPTION, absolute_path, explained_errors
from infra.deploy.kafka.jars import ensure_jars, java
from infra.deploy.kafka.probing import serves
from infra.deploy.kafka.programs import run_to_end
from infra.deploy.kafka.security import SCRAM, Security

# The C1 compiler and the serial collector start fastest and take the least of a small machine.
_JVM = ("-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1", "-Xshare:auto", "-Djava.awt.headless=true")
_TOOL_TIMEOUT_S = 120
_RESUME_S = 20.0
_PID_FILE_BYTES = 32


class KafkaServer:
    """Runs one broker with all its files in ``home``; a second start on the same home keeps data and ports.

    ``cache`` is the folder of the broker's jars (see :func:`infra.deploy.kafka.jars.ensure_jars`). With ``security`` it
    has more listeners, for tests; it counts at the first start only. The context manager starts and stops it. The
    process lives longer than this object unless ``stop`` or ``kill`` is called, so that one command can start a broker
    and another can stop it.
    """

    def __init__(
        self, home: Path, cache: Path | None = None, *, security: Security | None = None, heap_mb: int = 512
    ) -> None:
        self.home = home
        self.security = security
        self._cache = cache
        self._heap_mb = heap_mb
        self._child: subprocess.Popen[bytes] | None = None
        self._log_before = 0

    @property
    def bootstrap_servers(self) -> str:
        """``host:port`` for clients. Raises KafkaServerError before the first start."""
        return client_address(self.home)

    def address(self, listener: str) -> str:
        """Return ``host:port`` of ``listener`` (SASL_PLAINTEXT, SSL, SASL_SSL or MTLS) of a server with security."""
        return client_address(self.home, listener)

    @property
    def pid(self) -> int | None:
        """The broker's process id, or None when it does not run."""
        try:
            pid = int(self._pid_file.read_text(encoding="ascii"))
        except (OSError, ValueError):
            return None
        return pid if self._is_ours(pid) else None

    def is_serving(self) -> bool:
        """Return whether the broker serves requests now."""
        try:
            return serves(client_address(self.home))
        except KafkaServerError:
            return False

    def start(self, timeout_s: float = 60.0) -> None:
        """Format the storage on first use, start the broker, and wait until it responds.

        Does nothing when it runs already and responds. Raises KafkaServerError, with the cause, when it does not start.
        """
        self.launch()
        self.wait_until_serving(timeout_s)

    def launch(self) -> None:
        """Format the storage on first use and start the process, without waiting; do nothing when it runs.

        A process that runs but does not respond is continued; when that does not help, it is killed and started again.
        """
        if self.pid is not None:
            self.thaw()
            if self.responds_within(_RESUME_S):
                return
            self.kill()
        runtime, jars = java(), ensure_jars(self._cache)
        with explained_errors(self.home, HOME_OPTION):
            write_configs([self.home], self.security)
            self._format()
            self._spawn([*self._command(runtime, jars, "kafka.Kafka"), str(self._properties)])

    def responds_within(self, timeout_s: float) -> bool:
        """Wait until requests are served; return False when that takes too long or the process ends."""
        deadline = time.monotonic() + timeout_s
        while not self.is_serving():
            if self.pid is None or time.monotonic() > deadline:
                return False
            time.sleep(0.05)
        return True

    def wait_until_serving(self, timeout_s: float = 60.0) -> None:
        """Wait until requests are served. Kills the process and raises KafkaServerError when that takes too long."""
        if self.responds_within(timeout_s):
            return
        if self.pid is None:
            raise KafkaServerError(f"Kafka ended while starting: {self.cause()}")
        self.kill()
        raise KafkaServerError(f"Kafka did not respond within {timeout_s:g} s and was killed: {self.cause()}")

    def stop(self, timeout_s: float = 30.0) -> None:
        """Ask the broker to end (SIGTERM) and wait for it; kill it when it does not end."""
        pid = self.pid
        if pid is None:
            return
        for how in (signal.SIGTERM, signal.SIGCONT):  # a frozen process ends only when it continues
            self._signal(pid, how)
        if not self._wait_until_ended(timeout_s):
            self.kill()

    def kill(self) -> None:
        """End the broker at once (SIGKILL), as a crash would."""
        pid = self.pid
        if pid is None:
            return
        self._signal(pid, signal.SIGKILL)
        if not self._wait_until_ended(10.0):
            raise KafkaServerError(f"Kafka (process {pid}) did not end although it was killed; check the system's log")

    def freeze(self) -> None:
        """Freeze the process (SIGSTOP): connections stay open and get no response."""
        self._signal(self.pid, signal.SIGSTOP)

    def thaw(self) -> None:
        """Let a frozen process continue (SIGCONT)."""
        self._signal(self.pid, signal.SIGCONT)

    def set_password(self, user: str, password: str) -> None:
        """Change the password of a SCRAM user, or add the user, while the broker runs."""
        target = ("--bootstrap-server", self.bootstrap_servers, "--entity-type", "users", "--entity-name", user)
        for mechanism in SCRAM:  # Kafka accepts one change of a user at a time
            change = ("--alter", "--add-config", f"{mechanism}=[password={password}]")
            self._tool("kafka.admin.ConfigCommand", *target, *change)

    def cause(self) -> str:
        """Return why the last start failed, from the log, and where the log is; for an error text."""
        try:
            with self._log.open("rb") as log:
                log.seek(self._log_before)
                written = log.read().decode("utf-8", errors="replace")
        except OSError as error:
            return f"{self._log}: cannot be read ({error.strerror})"
        return f"{explain(written, self.home)} (log: {self._log})"

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    @property
    def _log(self) -> Path:
        return self.home / "kafka.log"

    @property
    def _pid_file(self) -> Path:
        return self.home / "kafka.pid"

    def _spawn(self, command: Sequence[str]) -> None:
        """Start the process and write its id down; a process whose id cannot be written is ended again."""
        # The room in the file is taken before the process exists, so that a full disk is found without it.
        self._pid_file.write_text(" " * _PID_FILE_BYTES, encoding="ascii")
        with self._log.open("ab") as log, self._pid_file.open("r+", encoding="ascii") as pid_file:
            self._log_before = log.tell()
            self._child = subprocess.Popen(  # noqa: S603 (a fixed command)
                command,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                cwd=self.home,
                start_new_session=True,  # an interrupt from the keyboard must not reach the broker
            )
            try:
                pid_file.write(str(self._child.pid).ljust(_PID_FILE_BYTES))
                pid_file.flush()
            except BaseException:
                self._child.kill()
                self._child.wait()
                raise

    def _format(self) -> None:
        """Write the cluster's identity into an empty data folder, which KRaft needs before the first start."""
        if (self.home / "data" / "meta.properties").exists():
            return
        options = format_options(self.home)
        if self.security is not None:
            options += self.security.format_options()
        self._tool("kafka.tools.StorageTool", "format", "--config", str(self._properties), *options)

    def _tool(self, main: str, *arguments: str) -> None:
        """Run one of Kafka's commands to its end. Raises KafkaServerError when it fails."""
        command = [*self._command(java(), ensure_jars(self._cache), main), *arguments]
        why = partial(explain, home=self.home)
        run_to_end(command, f"{self.home}: {main}", _TOOL_TIMEOUT_S, cwd=self.home, explain=why)

    @property
    def _properties(self) -> Path:
        return (absolute_path(self.home, HOME_OPTION) / PROPERTIES).resolve()

    def _command(self, runtime: str, jars: Path, main: str) -> list[str]:
        logging = f"-Dlog4j2.configurationFile={(self.home / LOGGING).resolve()}"
        return [runtime, f"-Xmx{self._heap_mb}m", *_JVM, logging, "-cp", f"{jars.resolve()}/*", main]

    def _is_ours(self, pid: int) -> bool:
        """Return whether ``pid`` is this home's broker: process ids are reused, so the command line decides."""
        if self._child is not None and self._child.pid == pid:
            # A child that was not waited for keeps its id. Its command line is empty for a moment when it has started.
            return self._child.poll() is None
        try:
            command = psutil.Process(pid).cmdline()
        except (psutil.Error, ValueError):  # it has ended, or belongs to another user; or no process has such an id
            return False
        return "kafka.Kafka" in command and str(self._properties) in command

    def _wait_until_ended(self, timeout_s: float) -> bool:
        deadline = time.monotonic() + timeout_s
        while self.pid is not None:
            if time.monotonic() > deadline:
                return False
            time.sleep(0.05)
        return True

    @staticmethod
    def _signal(pid: int | None, how: signal.Signals) -> None:
        if pid is not None:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, how)
