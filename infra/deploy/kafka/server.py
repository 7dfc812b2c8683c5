"""Runs one Apache Kafka node (KRaft) as a process of this machine: format once, start, stop, kill, restart."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import struct
import subprocess
import time
import uuid
from base64 import urlsafe_b64encode
from pathlib import Path
from types import TracebackType
from typing import Self

from infra.deploy.kafka.config import LOGGING, PROPERTIES, client_port, write_config
from infra.deploy.kafka.errors import KafkaServerError
from infra.deploy.kafka.jars import ensure_jars, java

_HEAP = "-Xmx512m"
# The C1 compiler and the serial collector start fastest and take the least of a small machine.
_JVM = (_HEAP, "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1", "-Xshare:auto", "-Djava.awt.headless=true")
_API_VERSIONS_KEY = 18
_TAIL_LINES = 8


class KafkaServer:
    """One broker whose files all lie in ``home``; a second start on the same home keeps data and ports.

    ``cache`` is the folder of the broker's jars (see :func:`infra.deploy.kafka.jars.ensure_jars`). As a context manager
    it starts and stops. The process outlives this object unless ``stop`` or ``kill`` is called, so that the command
    line can start a broker in one call and stop it in another.
    """

    def __init__(self, home: Path, cache: Path | None = None) -> None:
        self.home = home
        self._cache = cache
        self._child: subprocess.Popen[bytes] | None = None

    @property
    def bootstrap_servers(self) -> str:
        """``host:port`` for clients. Raises KafkaServerError before the first start."""
        return f"127.0.0.1:{client_port(self.home)}"

    @property
    def pid(self) -> int | None:
        """The broker's process id, or None when it does not run."""
        try:
            pid = int((self.home / "kafka.pid").read_text(encoding="ascii"))
        except (OSError, ValueError):
            return None
        return pid if self._is_ours(pid) else None

    def answers(self) -> bool:
        """Whether the broker serves requests now."""
        try:
            return _serves(client_port(self.home))
        except KafkaServerError:
            return False

    def start(self, timeout_s: float = 60.0) -> None:
        """Format the storage on first use, start the broker, and wait until it answers.

        Does nothing when it runs already. Raises KafkaServerError, with the end of the log, when it does not come up.
        """
        if self.pid is None:
            self._launch()
        deadline = time.monotonic() + timeout_s
        while not self.answers():
            if self.pid is None:
                raise KafkaServerError(f"Kafka ended while starting; the end of {self._log}: {self._log_tail()}")
            if time.monotonic() > deadline:
                self.kill()
                raise KafkaServerError(
                    f"Kafka did not answer within {timeout_s:g} s and was killed; "
                    f"the end of {self._log}: {self._log_tail()}"
                )
            time.sleep(0.05)

    def stop(self, timeout_s: float = 30.0) -> None:
        """Ask the broker to end (SIGTERM) and wait for it; kill it when it does not."""
        pid = self.pid
        if pid is None:
            return
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGTERM)
        if not self._wait_gone(timeout_s):
            self.kill()

    def kill(self) -> None:
        """End the broker at once (SIGKILL), as a crash would."""
        pid = self.pid
        if pid is None:
            return
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
        if not self._wait_gone(10.0):
            raise KafkaServerError(
                f"Kafka (process {pid}) did not end although it was killed; look at the system's log"
            )

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

    def _launch(self) -> None:
        """Start the Java process; its output goes to ``kafka.log`` and its id to ``kafka.pid``."""
        runtime, jars = java(), ensure_jars(self._cache)
        write_config(self.home)
        self._format(runtime, jars)
        with self._log.open("ab") as log:
            self._child = subprocess.Popen(  # noqa: S603 (a fixed command)
                [*self._command(runtime, jars, "kafka.Kafka"), str(self._properties)],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,  # an interrupt from the keyboard is for us, not for the broker
            )
        (self.home / "kafka.pid").write_text(str(self._child.pid), encoding="ascii")

    def _format(self, runtime: str, jars: Path) -> None:
        """Write the cluster's identity into an empty data folder, as KRaft wants before the first start."""
        if (self.home / "data" / "meta.properties").exists():
            return
        identity = urlsafe_b64encode(uuid.uuid4().bytes).rstrip(b"=").decode().replace("-", "A")
        command = [
            *self._command(runtime, jars, "kafka.tools.StorageTool"),
            *("format", "--standalone", "--cluster-id", identity, "--config", str(self._properties)),
        ]
        done = subprocess.run(  # noqa: S603 (a fixed command)
            command, capture_output=True, text=True, timeout=60, check=False
        )
        if done.returncode != 0:
            tail = " | ".join((done.stdout + done.stderr).strip().splitlines()[-4:])
            raise KafkaServerError(f"{self.home}: the storage could not be formatted: {tail}")

    @property
    def _properties(self) -> Path:
        return (self.home / PROPERTIES).resolve()

    def _command(self, runtime: str, jars: Path, main: str) -> list[str]:
        logging = f"-Dlog4j2.configurationFile={(self.home / LOGGING).resolve()}"
        return [runtime, *_JVM, logging, "-cp", f"{jars.resolve()}/*", main]

    def _is_ours(self, pid: int) -> bool:
        """Whether ``pid`` is this home's broker: process ids are reused, so the command line decides."""
        if self._child is not None and self._child.pid == pid and self._child.poll() is not None:
            return False
        seen = subprocess.run(  # noqa: S603 (the one argument is a number)
            ["ps", "-ww", "-o", "command=", "-p", str(pid)],  # noqa: S607 (every POSIX system has it)
            capture_output=True,
            text=True,
            check=False,
        )
        return "kafka.Kafka" in seen.stdout and str(self._properties) in seen.stdout

    def _wait_gone(self, timeout_s: float) -> bool:
        deadline = time.monotonic() + timeout_s
        while self.pid is not None:
            if time.monotonic() > deadline:
                return False
            time.sleep(0.05)
        return True

    def _log_tail(self) -> str:
        try:
            lines = self._log.read_text(encoding="utf-8", errors="replace").strip().splitlines()
        except OSError as error:
            return f"(no log: {error.strerror})"
        return " | ".join(lines[-_TAIL_LINES:])


def _serves(port: int) -> bool:
    """Whether a broker on ``port`` answers an ApiVersions request, the first of Kafka's protocol."""
    client = b"windhover"
    body = struct.pack(">hhih", _API_VERSIONS_KEY, 0, 1, len(client)) + client
    try:
        with socket.create_connection(("127.0.0.1", port), timeout=1.0) as link:
            link.sendall(struct.pack(">i", len(body)) + body)
            reply = link.recv(10)
    except OSError:
        return False
    if len(reply) < 10:
        return False
    _, correlation, error_code = struct.unpack(">iih", reply)
    return bool(correlation == 1 and error_code == 0)
