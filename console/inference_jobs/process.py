"""Runs the command of an inference job as a child process, with all it needs in its environment."""

from __future__ import annotations

import asyncio
import logging
import os
import signal
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Protocol

from console.inference_settings import InferenceJobsSettings

logger = logging.getLogger(__name__)

_STOP_TIMEOUT_S = 5.0
# Live frames go first: the scheduler gives a job what they leave.
_NICE = 10


@dataclass(frozen=True, slots=True)
class Ended:
    """Says how a job's process ended; what it found came by the call-back."""

    reason: str
    final: bool = False
    """Whether starting it again would not help"""


class Launcher(Protocol):
    """Runs the command of a job somewhere."""

    async def run(self, job_id: int, variables: Mapping[str, str]) -> Ended:
        """Run it to its end; cancelled, nothing of it may go on that another console could not take over."""
        ...


class ProcessLauncher:
    """Runs the command of each job on this machine."""

    def __init__(self, command: Sequence[str], environment: Mapping[str, str]) -> None:
        """``environment``: what all processes get besides the variables of their job."""
        self._command = command
        self._environment = environment

    async def run(self, job_id: int, variables: Mapping[str, str]) -> Ended:
        """Run the process; cancelled, it is ended. Its log goes where that of this process goes."""
        process = await asyncio.create_subprocess_exec(
            *self._command,
            env={**self._environment, **variables},
            # It ends when this process ends, also when that is killed.
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.DEVNULL,
            start_new_session=True,
        )
        logger.info("inference job %d runs as process %d", job_id, process.pid)
        with suppress(OSError):
            os.setpriority(os.PRIO_PROCESS, process.pid, _NICE)
        try:
            status = await process.wait()
        finally:
            if process.returncode is None:
                await asyncio.shield(_end(process))
        return Ended(_how(status))


async def _end(process: asyncio.subprocess.Process) -> None:
    with suppress(ProcessLookupError):
        process.terminate()
    try:
        async with asyncio.timeout(_STOP_TIMEOUT_S):
            await process.wait()
    except TimeoutError:
        with suppress(ProcessLookupError):
            process.kill()
        await process.wait()


def _how(status: int) -> str:
    if status >= 0:
        return f"its process ended with status {status}, and no result came; the log of the console has its reason"
    try:
        name = signal.Signals(-status).name
    except ValueError:
        name = str(-status)
    return f"its process was ended by the signal {name}, before a result came"


def s3_variables(settings: InferenceJobsSettings, environ: Mapping[str, str]) -> Mapping[str, str]:
    """Return the variables with which a process reaches the S3 server of ``settings``.

    What the settings leave out is taken from ``environ``.
    """
    found = {name: value for name, value in environ.items() if name.startswith("AWS_")}
    if settings.endpoint_url is not None:
        found["AWS_ENDPOINT_URL"] = settings.endpoint_url
    if settings.access_key is not None and settings.secret_key is not None:
        for name in [name for name in found if name in ("AWS_SESSION_TOKEN", "AWS_PROFILE")]:
            del found[name]
        found["AWS_ACCESS_KEY_ID"] = settings.access_key.get_secret_value()
        found["AWS_SECRET_ACCESS_KEY"] = settings.secret_key.get_secret_value()
    return {**found, "AWS_REGION": settings.region}
