"""Runs the LakeFS double in a process: ``python -m tests.servers.lakefs_process FOLDER`` prints its port and serves."""

from __future__ import annotations

import signal
import sys
from pathlib import Path

from tests.servers.lakefs import LakeFsServer


def main() -> None:
    """Serve until the process is ended."""
    # What is linked exists: the bytes of links are read once, by the check whether the server can.
    with LakeFsServer(Path(sys.argv[1]), lambda address: b"x") as server:
        print(server.port, flush=True)
        signal.sigwait({signal.SIGTERM, signal.SIGINT})


if __name__ == "__main__":
    main()
