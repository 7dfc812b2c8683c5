"""A child process is yielded when it is ready and ended after use; one that does not get ready is an error."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

from infra.deploy.ports import free_port
from standgale import children
from standgale.children import ChildError, run_child

pytestmark = pytest.mark.integration

SERVER = """
import http.server, signal, sys
if sys.argv[2] == "ignore":
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
status = int(sys.argv[3])
class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(status)
        self.end_headers()
        self.wfile.write(b"the broker is unavailable")
print("serving", flush=True)
http.server.HTTPServer(("127.0.0.1", int(sys.argv[1])), Handler).serve_forever()
"""


def server(port: int, on_sigterm: str = "end", status: int = 200) -> tuple[str, ...]:
    return (sys.executable, "-c", SERVER, str(port), on_sigterm, str(status))


async def test_child_is_yielded_when_ready_and_terminated_after_use(tmp_path: Path) -> None:
    port = free_port()
    log = tmp_path / "child.log"
    async with run_child(server(port), os.environ, log, f"http://127.0.0.1:{port}/") as process:
        assert process.returncode is None
    assert process.returncode is not None
    assert "serving" in log.read_text()


async def test_child_that_ignores_sigterm_is_killed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(children, "_STOP_TIMEOUT_S", 0.2)
    port = free_port()
    command = server(port, "ignore")
    async with run_child(command, os.environ, tmp_path / "child.log", f"http://127.0.0.1:{port}/") as process:
        pass
    assert process.returncode == -9


async def test_child_that_ends_at_once_raises_child_error_with_its_last_output(tmp_path: Path) -> None:
    command = (sys.executable, "-c", "raise SystemExit('no such setting')")
    with pytest.raises(ChildError, match=r"did not get ready.*child\.log ends: no such setting"):
        async with run_child(command, os.environ, tmp_path / "child.log", f"http://127.0.0.1:{free_port()}/"):
            pass


async def test_child_that_is_never_ready_raises_child_error_with_its_last_response(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(children, "_START_TIMEOUT_S", 3.0)
    port = free_port()
    command = server(port, status=503)
    with pytest.raises(ChildError, match="the broker is unavailable"):
        async with run_child(command, os.environ, tmp_path / "child.log", f"http://127.0.0.1:{port}/"):
            pass
