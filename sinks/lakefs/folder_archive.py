"""Keeps the archive in a local folder, with the layout and the commits that it has in LakeFS.

``<root>/<repository>/<branch>/images/…`` has the files, ``<root>/<repository>/.commits/<id>.json`` what each commit
added, and ``.heads/<branch>`` the last commit. A commit is decided by one file, ``.pending/<branch>``, which is written
first and removed when all is done; a process that finds one finishes that commit.
"""

from __future__ import annotations

import asyncio
import errno
import hashlib
import os
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any, TypeVar
from uuid import uuid4

import orjson

from infra.errors import StoreFullError, StoreUnavailableError
from infra.storage.durable_files import locked_folder, make_folder, sync_file, sync_folder, write_synced
from infra.storage.frames.port import FrameStore
from schemas.timestamps import format_utc
from sinks.lakefs.port import MAIN, Committed, PlacedImage
from sinks.metrics import ARCHIVE_IMAGES

T = TypeVar("T")

COMMITS, HEADS, PENDING, UNFINISHED = ".commits", ".heads", ".pending", ".unfinished"
_SEARCHED = 200
_NO_LINKS = (errno.EXDEV, errno.EMLINK, errno.EPERM, errno.ENOTSUP, errno.EOPNOTSUPP)


class FolderArchive:
    """Keeps one branch below a folder; :class:`sinks.lakefs.port.Archive` has the contract.

    Images of a frame store on the same disk are hard links: they take no space twice, and stay when the frame store
    removes them.
    """

    def __init__(self, root: Path, repository: str, branch: str, store: FrameStore) -> None:
        self._root = root.absolute() / repository
        self._repository = repository
        self._branch = branch
        self._store = store
        self._added: dict[str, tuple[str, int]] = {}
        """Path, SHA-256 and size of the images that were added since the last commit."""
        self._documents: dict[str, bytes] = {}
        """Those that were added since the last commit; they are in no file yet."""
        self._removed: set[str] = set()

    @property
    def repository(self) -> str:
        """The name of the repository."""
        return self._repository

    @property
    def branch(self) -> str:
        """The name of the branch."""
        return self._branch

    async def open(self) -> None:
        """Create the folders; a branch that is not main begins as a copy of main."""
        await self._run("open", self._open)

    async def begin_batch(self) -> None:
        """Forget what was added; files that were placed stay, and are found when they are added again."""
        self._forget()

    async def read(self, path: str) -> bytes | None:
        """Return the document at ``path``, added or committed."""
        added = self._documents.get(path)
        return added if added is not None else await self._run("read", partial(self._read, path))

    async def add_images(self, images: Sequence[PlacedImage]) -> None:
        """Link or copy the files of the frame store."""
        for each in images:
            async with self._store.local(each.image) as file:
                await self._run("write", partial(self._place, file, each.path))
            self._added[each.path] = each.image.sha256, each.image.size_bytes

    async def add_document(self, path: str, data: bytes) -> None:
        """Keep a document until the commit."""
        self._documents[path] = data

    async def add_picture(self, path: str, data: bytes) -> None:
        """Write a picture; it is part of the next commit."""
        await self._run("write", partial(self._replace, self._file(path), data))
        self._added[path] = hashlib.sha256(data).hexdigest(), len(data)
        ARCHIVE_IMAGES.labels("drawn").inc()

    async def remove(self, paths: Sequence[str]) -> None:
        """Remove files with the next commit, which is where their bytes are freed."""
        self._removed.update(paths)

    async def commit(self, batch: str, message: str, metadata: Mapping[str, str]) -> Committed | None:
        """Commit what was added; see the port."""
        return await self._run("commit", partial(self._commit, batch, message, dict(metadata)))

    async def close(self) -> None:
        """Forget what was added and not committed."""
        await self.begin_batch()

    def _open(self) -> None:
        for name in (COMMITS, HEADS, PENDING, UNFINISHED):
            make_folder(self._root / name)
        with locked_folder(self._root, exclusive=True):
            self._finish_pending(MAIN)
            self._finish_pending(self._branch)
            if self._branch != MAIN and not (self._root / self._branch).exists():
                self._copy_main()
        make_folder(self._root / self._branch)

    def _copy_main(self) -> None:
        """Make the branch from main: the same files by hard links, and the same last commit."""
        source, draft = self._root / MAIN, self._root / UNFINISHED / uuid4().hex
        if source.exists():
            shutil.copytree(source, draft, copy_function=_link_or_copy)
        else:
            draft.mkdir()
        head = self._head(MAIN)
        if head is not None:
            self._replace(self._root / HEADS / self._branch, head.encode())
        draft.rename(self._root / self._branch)
        sync_folder(self._root)

    def _read(self, path: str) -> bytes | None:
        with locked_folder(self._root, exclusive=True):
            self._finish_pending(self._branch)
            try:
                return self._file(path).read_bytes()
            except FileNotFoundError:
                return None

    def _place(self, source: Path, path: str) -> None:
        target = self._file(path)
        if target.exists() and target.stat().st_size == source.stat().st_size:
            return
        draft = self._root / UNFINISHED / uuid4().hex
        # First, as in _replace.
        _link_or_copy(source, draft)
        make_folder(target.parent)
        draft.replace(target)
        sync_folder(target.parent)
        ARCHIVE_IMAGES.labels("linked" if target.stat().st_nlink > 1 else "uploaded").inc()

    def _commit(self, batch: str, message: str, metadata: dict[str, str]) -> Committed | None:
        with locked_folder(self._root, exclusive=True):
            self._finish_pending(self._branch)
            changes = self._changes()
            if not changes:
                return self._find(batch)
            now = datetime.now(UTC)
            fields = {
                "parent": self._head(self._branch),
                "branch": self._branch,
                "batch": batch,
                "message": message,
                "metadata": metadata,
                "created_at": format_utc(now),
                "changes": changes,
            }
            commit_id = hashlib.sha256(orjson.dumps(fields)).hexdigest()
            documents = {path: data.decode("latin-1") for path, data in self._documents.items()}
            pending = {"commit": {"id": commit_id, **fields}, "documents": documents}
            self._replace(self._root / PENDING / self._branch, orjson.dumps(pending))
            self._finish_pending(self._branch)
            self._forget()
            return Committed(commit_id, now)

    def _forget(self) -> None:
        self._added.clear()
        self._documents.clear()
        self._removed.clear()

    def _changes(self) -> list[dict[str, Any]]:
        """Return what the next commit changes, by path; a file that is not there is not removed."""
        changes: list[dict[str, Any]] = [
            {"path": path, "sha256": digest, "size_bytes": size} for path, (digest, size) in self._added.items()
        ]
        changes += [
            {"path": path, "sha256": hashlib.sha256(data).hexdigest(), "size_bytes": len(data)}
            for path, data in self._documents.items()
        ]
        changes += [{"path": path, "removed": True} for path in self._removed if self._file(path).exists()]
        return sorted(changes, key=lambda change: str(change["path"]))

    def _finish_pending(self, branch: str) -> None:
        """Finish a commit that was decided, if there is one; each step may have been done already."""
        decided = self._root / PENDING / branch
        try:
            pending = orjson.loads(decided.read_bytes())
        except FileNotFoundError:
            return
        commit = pending["commit"]
        for path, text in pending["documents"].items():
            self._replace(self._root / branch / path, text.encode("latin-1"))
        for change in commit["changes"]:
            if change.get("removed"):
                (self._root / branch / change["path"]).unlink(missing_ok=True)
        self._replace(self._root / COMMITS / f"{commit['id']}.json", orjson.dumps(commit, option=orjson.OPT_INDENT_2))
        self._replace(self._root / HEADS / branch, commit["id"].encode())
        decided.unlink()
        sync_folder(decided.parent)

    def _find(self, batch: str) -> Committed | None:
        """Return the commit of ``batch``, else the last one; both have all that was added before."""
        newest: Committed | None = None
        for number, commit in enumerate(self._log()):
            found = Committed(commit["id"], datetime.fromisoformat(commit["created_at"]))
            newest = newest or found
            if commit["batch"] == batch:
                return found
            if number >= _SEARCHED:
                break
        return newest

    def _log(self) -> Iterator[dict[str, Any]]:
        following = self._head(self._branch)
        while following is not None:
            commit: dict[str, Any] = orjson.loads((self._root / COMMITS / f"{following}.json").read_bytes())
            yield commit
            following = commit["parent"]

    def _head(self, branch: str) -> str | None:
        try:
            return (self._root / HEADS / branch).read_text()
        except FileNotFoundError:
            return None

    def _replace(self, path: Path, data: bytes) -> None:
        """Write a file whole or not at all."""
        draft = self._root / UNFINISHED / uuid4().hex
        # First: it fails where the disk of the archive is not mounted, and nothing is written below the mount point.
        write_synced(draft, data)
        make_folder(path.parent)
        draft.replace(path)
        sync_folder(path.parent)

    def _file(self, path: str) -> Path:
        return self._root / self._branch / path

    async def _run(self, verb: str, work: Callable[[], T]) -> T:
        """Do ``work`` in a thread; raises StoreFullError and StoreUnavailableError."""
        try:
            return await asyncio.to_thread(work)
        except OSError as error:
            text = f"cannot {verb} the archive in {self._root}: {error.strerror or error}"
            if error.errno in (errno.ENOSPC, errno.EDQUOT):
                raise StoreFullError(f"{text}; free space on its disk, or set STANDGALE_LAKEFS__FOLDER") from error
            raise StoreUnavailableError(
                f"{text}; let the user of this process read and write it, or set STANDGALE_LAKEFS__FOLDER"
            ) from error


def _link_or_copy(source: str | Path, target: str | Path) -> None:
    """Let ``target`` be a hard link to ``source``, or a copy where the disk or its limits do not allow one."""
    try:
        os.link(source, target)
    except OSError as error:
        if error.errno not in _NO_LINKS:
            raise
        shutil.copyfile(source, target)
        with Path(target).open("rb") as file:
            sync_file(file.fileno())
