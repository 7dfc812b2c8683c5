"""Runs programs that a local broker needs besides the server: Maven, openssl and Kafka's commands."""

from __future__ import annotations

import subprocess
from collections.abc import Callable, Sequence
from pathlib import Path

from infra.deploy.kafka.causes import find_cause
from infra.deploy.kafka.errors import KafkaServerError


def run_to_end(
    command: Sequence[str],
    what: str,
    timeout_s: float,
    *,
    cwd: Path | None = None,
    advice: str = "try again",
    explain: Callable[[str], str] = find_cause,
) -> None:
    """Run ``command``. Raises KafkaServerError when it fails, or, with ``advice``, when it does not end in time.

    The error's text begins with ``what`` the command does and ends with what ``explain`` makes of its output.
    """
    try:
        done = subprocess.run(  # noqa: S603 (commands of our own; nothing in them comes from outside)
            command, cwd=cwd, capture_output=True, text=True, timeout=timeout_s, check=False
        )
    except subprocess.TimeoutExpired as error:
        raise KafkaServerError(f"{what} took longer than {timeout_s:g} s and was ended; {advice}") from error
    except OSError as error:
        raise KafkaServerError(f"{command[0]}: cannot be started ({error.strerror}); install it again") from error
    if done.returncode != 0:
        cause = explain(done.stdout + done.stderr)
        raise KafkaServerError(f"{what} failed (exit status {done.returncode}): {cause}")
