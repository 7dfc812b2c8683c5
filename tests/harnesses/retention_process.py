"""Runs retention in a child process that kills itself at a step: ``python -m … DSN FOLDER``.

Each line of its input is a number; a fork of this process, which has everything imported, kills itself with SIGKILL at
that step and the line that follows says how it ended: "killed", or "done" when there were fewer steps.
"""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from infra.database.pool import Database
from infra.database.settings import DatabaseSettings
from tests.harnesses.retention import RetentionSite


class Steps:
    """Counts the steps, and kills the process at one of them."""

    def __init__(self, last: int) -> None:
        self._left = last

    def step(self) -> None:
        if self._left == 0:
            os.kill(os.getpid(), signal.SIGKILL)
        self._left -= 1


class SteppedStore:
    """Counts before and after each call that changes something, and before each question."""

    def __init__(self, store: Any, steps: Steps) -> None:
        self._store, self._steps = store, steps

    def __getattr__(self, name: str) -> Any:
        return getattr(self._store, name)

    async def find(self, digests: Any) -> Any:
        self._steps.step()
        return await self._store.find(digests)

    async def delete_older(self, uri: str, cutoff: Any) -> bool:
        self._steps.step()
        found: bool = await self._store.delete_older(uri, cutoff)
        self._steps.step()
        return found


class SteppedDatabase:
    """Counts before and after each connection is used: all its transactions are over then."""

    def __init__(self, database: Database, steps: Steps) -> None:
        self._database, self._steps = database, steps

    @asynccontextmanager
    async def acquire(self, **how: Any) -> AsyncIterator[Any]:
        async with self._database.acquire(**how) as connection:
            yield connection
        self._steps.step()


class FolderArchive:
    """Is an archive of one file per path."""

    def __init__(self, folder: Path, steps: Steps | None = None) -> None:
        self.folder, self._steps = folder, steps

    async def remove(self, paths: Sequence[str]) -> None:
        for path in paths:
            if self._steps is not None:
                self._steps.step()
            (self.folder / path.replace("/", "_")).unlink(missing_ok=True)


async def _run(dsn: str, folder: Path, last: int) -> None:
    steps = Steps(last)
    database = Database.open(DatabaseSettings(url=dsn), folder)
    stepped: Any = SteppedDatabase(database, steps)
    site = RetentionSite(folder / "frames", stepped)
    store: Any = SteppedStore(site.store, steps)
    await site.retention(FolderArchive(folder / "archive", steps), store, max_total_gb=0.000_002).run()
    await database.close()


def main(dsn: str, folder: Path) -> None:
    """Fork once for each line."""
    for line in sys.stdin:
        child = os.fork()
        if child == 0:
            asyncio.run(_run(dsn, folder, int(line)))
            os._exit(0)
        status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        print({0: "done", -signal.SIGKILL: "killed"}.get(status, f"failed: {status}"), flush=True)


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]))
