"""A process ends at once, with its own status, while a name server does not answer one of its look-ups."""

from __future__ import annotations

import subprocess
import sys
import time

import pytest

from tests.paths import ROOT

pytestmark = pytest.mark.integration

_PROGRAM = """
import asyncio, time
from infra.network import addresses, checked_http
from infra.process.service import run_service

# A name server that does not answer: getaddrinfo returns after half a minute.
addresses.socket.getaddrinfo = lambda *_, **__: time.sleep(30)

async def main():
    try:
        async with asyncio.timeout(0.2):
            await checked_http.find_allowed("receiver.test", 443, addresses.AddressRules())
    except TimeoutError:
        return 7
    return 1

raise SystemExit({how})
"""


@pytest.mark.parametrize("how", ["run_service(main)", "asyncio.run(main())"])
def test_process_ends_with_its_status_while_a_look_up_hangs(how: str) -> None:
    """A service ended 2 s late with status 1 and an error in its log, a command after half a minute."""
    began = time.monotonic()
    done = subprocess.run(
        [sys.executable, "-P", "-c", _PROGRAM.replace("{how}", how)],
        env={"PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert (done.returncode, done.stderr) == (7, "")
    assert time.monotonic() - began < 15
