"""Runs programs that a local broker needs besides the server: Maven, openssl and Kafka's commands."""

from __future__ import annotations

import subprocess
from collections.abc import Sequence
from pathlib import Path

from infra.deploy.kafka.errors import KafkaServerError

_TAIL_LINES = 4


def run_to_end(
    command: Sequence[str], what: str, timeout_s: float, *, cwd: Path | None = None, advice: str = "try again"
) -> None:
    """Run ``command``. Raises KafkaServerError when it fails, or, with ``advice``, when it does not end in time.

    The error's text begins with ``what`` the command does.
    """
    try:
        done = subprocess.run(  # noqa: S603 (commands of our own; nothing in them comes from outside)
            command, cwd=cwd, capture_output=True, text=True, timeout=timeout_s, check=False
        )
    except subprocess.TimeoutExpired as error:
        raise KafkaServerError(f"{what} took longer than {timeout_s:g} s and was ended; {advice}") from error
    if done.returncode != 0:
        tail = " | ".join((done.stdout + done.stderr).strip().splitlines()[-_TAIL_LINES:])
        raise KafkaServerError(f"{what} failed (exit status {done.returncode}): {tail}")
