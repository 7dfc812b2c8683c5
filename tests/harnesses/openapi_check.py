"""Runs schemathesis against a running service, and ends it in time."""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from tests.paths import ROOT

# It takes some 15 s; --max-time is no limit, but how long it goes on looking.
KILLED_AFTER_S = 120.0


async def check_document(
    address: str, configuration: Path, folder: Path, header: str, **variables: str
) -> tuple[int, str]:
    """The exit code and output of a check of all operations; ``variables`` are those that the configuration names."""
    command = (
        *(sys.executable, "-m", "schemathesis.cli", "--config-file", str(configuration), "run", address),
        *("--header", header, "--phases", "examples,coverage,fuzzing", "--max-examples", "2"),
        *("--seed", "1", "--request-timeout", "5", "--no-color", "--workers", "1", "--no-shrink", "--warnings", "off"),
    )
    environment = {
        **os.environ,
        **variables,
        "PYTHONPATH": str(ROOT),
        "SCHEMATHESIS_HOOKS": "tests.harnesses.openapi_data",
    }
    return await output_of(command, folder, environment, KILLED_AFTER_S)


async def output_of(
    command: Sequence[str], folder: Path, environment: Mapping[str, str], most_s: float
) -> tuple[int, str]:
    # It keeps what it has found in a folder of the working directory.
    process = await asyncio.create_subprocess_exec(
        *command,
        cwd=folder,
        env=environment,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    try:
        async with asyncio.timeout(most_s):
            output, _ = await process.communicate()
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    assert process.returncode is not None
    return process.returncode, output.decode(errors="replace")


def failures_of(output: str) -> str:
    """Return the failures without the bytes of pictures."""
    return "\n".join(line[:300] for line in output.splitlines() if line.strip())[-8_000:]
