"""Runs one PostgreSQL server as its child, and stops it when the last process that uses it has ended.

It is a program of its own, `python -I -S keeper.py LOCK UID GID SERVER ARGUMENTS…`: a process that is killed (SIGKILL)
cannot stop anything. LOCK is the number of an open file of which every user holds a shared lock; the lock ends with its
holder. UID and GID are those of the server, or -. It imports what Python has loaded anyway, so it is small.
"""

from __future__ import annotations

import fcntl
import os
import signal
import sys
import time
from types import FrameType
from typing import Never

_STOP_TIMEOUT_S = 20.0
_POLL_S = 0.02
# No variables of this process: PG* variables of the user would change what the server and its tools do.
ENVIRONMENT = {"LC_ALL": "C", "PATH": os.defpath}


def main(lock: int, user: str, group: str, command: list[str]) -> None:
    """Run ``command`` until it ends, or until no process holds ``lock`` any more."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    os.set_inheritable(lock, False)
    server = os.fork()
    if server == 0:
        _become(user, group, command)

    def stop(*_: object) -> None:
        _stop(server)

    def check(_number: int, _frame: FrameType | None) -> None:
        if os.waitpid(server, os.WNOHANG)[0] == server:
            os._exit(0)

    signal.signal(signal.SIGTERM, stop)
    signal.signal(signal.SIGCHLD, check)
    check(signal.SIGCHLD, None)  # it may have ended before
    fcntl.flock(lock, fcntl.LOCK_EX)
    # Nobody can start to use the server while this is held.
    _stop(server)


def _become(user: str, group: str, command: list[str]) -> Never:
    """Replace this process by the server."""
    try:
        if user != "-":
            os.setgroups([])
            os.setgid(int(group))
            os.setuid(int(user))
        signal.signal(signal.SIGINT, signal.SIG_DFL)
        os.execve(command[0], command, ENVIRONMENT)  # noqa: S606 (our own command)
    except OSError as error:
        os.write(2, f"{command[0]} does not start: {error}\n".encode())
    os._exit(1)


def _stop(server: int) -> Never:
    """Stop the server: connections are cut and nothing committed is lost; then end this process."""
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    # Fast shutdown, with a checkpoint; then immediate, which a recovery follows at the next start.
    for how in (signal.SIGINT, signal.SIGQUIT, signal.SIGKILL):
        os.kill(server, how)  # our child keeps its number until it is waited for
        deadline = time.monotonic() + _STOP_TIMEOUT_S
        while time.monotonic() < deadline:
            if os.waitpid(server, os.WNOHANG)[0] == server:
                os._exit(0)
            time.sleep(_POLL_S)
    os._exit(1)


if __name__ == "__main__":
    main(int(sys.argv[1]), sys.argv[2], sys.argv[3], sys.argv[4:])
