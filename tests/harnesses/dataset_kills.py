"""Makes data sets in child processes, each of which is killed at a later step; prints what is there before and after.

Run as a process of its own: it forks, which a process with threads must not. Arguments: JSON with dsn, frames, and
either folder or lakefs (the address of a server).
"""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
from functools import partial
from pathlib import Path
from typing import Any

from pydantic import SecretStr

from console.datasets.create import DatasetParts, DatasetRequest, create_dataset
from console.datasets.settings import DatasetSettings
from console.datasets.splits import parse_shares
from console.datasets.stores import folder as folder_store
from console.datasets.stores.folder import FolderDatasets
from console.datasets.stores.lakefs import LakeFsDatasets
from console.datasets.stores.port import DatasetStore
from infra.database.pool import Database
from infra.database.settings import DatabaseSettings
from infra.failure.settings import RetrySettings
from infra.lakefs.access import LakeFsAccess
from infra.lakefs.objects import LakeFsObjects
from infra.lakefs.requests import LakeFsRequests
from infra.storage.frames.folder import FolderFrameStore
from tests.servers.lakefs import ACCESS_KEY, SECRET_KEY

STEPS = 200


def _store(about: dict[str, str]) -> DatasetStore:
    if "folder" in about:
        return FolderDatasets(Path(about["folder"]))
    access = LakeFsAccess(about["lakefs"], SecretStr(ACCESS_KEY), SecretStr(SECRET_KEY), "bird-detection", 5.0)
    return LakeFsDatasets(access, RetrySettings(first_delay_s=0.01, max_delay_s=0.05))


class _Killer:
    """Kills this process before the n-th change that it makes."""

    def __init__(self, step: int) -> None:
        self._left = step

    def __call__(self) -> None:
        self._left -= 1
        if self._left == 0:
            os.kill(os.getpid(), signal.SIGKILL)


def _arm(killer: _Killer) -> None:
    """Let each change of a store come to the killer first."""

    def before(owner: Any, name: str) -> None:
        change = getattr(owner, name)

        def changed(*arguments: Any, **options: Any) -> Any:
            killer()
            return change(*arguments, **options)

        setattr(owner, name, changed)

    for name in ("write_synced", "_copy_synced", "sync_folder", "_remove"):
        before(folder_store, name)
    for owner, name in ((LakeFsObjects, "send"), (LakeFsRequests, "create")):
        before(owner, name)
    json_call = LakeFsRequests.json

    async def counted(self: Any, method: str, *arguments: Any, **options: Any) -> Any:
        if method != "GET":
            killer()
        return await json_call(self, method, *arguments, **options)

    LakeFsRequests.json = counted  # type: ignore[method-assign]


async def _create(about: dict[str, str], name: str) -> None:
    database = Database.open(DatabaseSettings(url=SecretStr(about["dsn"])), Path("unused"))
    frames, store = FolderFrameStore(Path(about["frames"])), _store(about)
    parts = DatasetParts(database, frames, store, DatasetSettings(transfers=1), "standgale test")
    request = DatasetRequest(name, "width > 0", parse_shares("80/10/10"), formats=("yolo",))
    await create_dataset(parts, request, lambda what, done, total: None)
    for each in (store, frames, database):
        await each.close()


async def _there(about: dict[str, str], name: str) -> list[str]:
    """Return the id of the data set, and whether something of it is unfinished."""
    store = _store(about)
    found = await store.open(name) if name in await store.names() else None
    unfinished = ["unfinished"] if name in await store.unfinished() else []
    await store.close()
    return [*([] if found is None else [found.manifest.id]), *unfinished]


def _in_child(work: Any) -> tuple[int, bytes]:
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(reading)
        os.write(writing, json.dumps(work()).encode())
        os._exit(0)
    os.close(writing)
    with os.fdopen(reading, "rb") as pipe:
        printed = pipe.read()
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), printed


def main() -> None:
    about = json.loads(sys.argv[1])

    def create(name: str, step: int | None) -> None:
        if step is not None:
            _arm(_Killer(step))
        asyncio.run(_create(about, name))

    def look_and_complete(name: str) -> dict[str, list[str]]:
        there = asyncio.run(_there(about, name))
        create(name, None)
        return {"there": there, "after": asyncio.run(_there(about, name))}

    for step in range(1, STEPS):
        name = f"birds-{step}"
        status, _ = _in_child(partial(create, name, step))
        again, found = _in_child(partial(look_and_complete, name))
        print(json.dumps({"step": step, "status": status, "again": again, **json.loads(found)}), flush=True)
        if status != -signal.SIGKILL:
            break


if __name__ == "__main__":
    main()
