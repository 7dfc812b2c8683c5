"""Keeps data sets in a LakeFS repository: each is a branch, which keeps its files from garbage collection, and a tag.

A data set is made on a branch of its own with another name, and committed there; the branch with its name is created at
that commit, so there is never a part of a data set. The branches begin empty, and have nothing but the data set.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from functools import partial
from itertools import count
from pathlib import Path
from typing import TypeVar

from console.datasets.errors import DatasetBusyError, DatasetDamagedError, DatasetExistsError
from console.datasets.manifest import MANIFEST, MOST_MANIFEST_BYTES, Manifest, read_manifest
from console.datasets.names import (
    BRANCH_PREFIX,
    UNFINISHED_PREFIX,
    branch_of,
    name_of_branch,
    name_of_unfinished,
    require_path,
    tag_of,
    unfinished_branch,
)
from infra.failure.backoff import Backoff
from infra.failure.settings import RetrySettings
from infra.lakefs.access import LakeFsAccess
from infra.lakefs.commits import BATCH
from infra.lakefs.entries import LakeFsRef
from infra.lakefs.errors import (
    LakeFsNotFoundError,
    LakeFsObjectMissingError,
    LakeFsTooLargeError,
    LakeFsUnavailableError,
)
from infra.lakefs.repository import LakeFsRepository

T = TypeVar("T")
_EMPTY = "standgale-empty"
"""The branch at the first commit of the repository, from which the branches of data sets are made."""
_ATTEMPTS = 6
_DIGEST = "sha256"


class LakeFsDatasets:
    """Keeps each data set on a branch; see :class:`console.datasets.stores.port.DatasetStore`."""

    def __init__(self, access: LakeFsAccess, retry: RetrySettings) -> None:
        """Connects at the first call."""
        self._access = access
        self._retry = retry
        self._repository = LakeFsRepository(access)

    @property
    def where(self) -> str:
        """The repository."""
        return self._repository.where

    def address(self, name: str) -> str:
        """Return the branch of a data set, as LakeFS writes it."""
        return f"lakefs://{self._access.repository}/{branch_of(name)}/"

    async def names(self) -> Sequence[str]:
        """Return the names of all branches of data sets."""
        await self._again(self._repository.check)
        found = [name_of_branch(ref.name) for ref in await self._branches(BRANCH_PREFIX)]
        return sorted(name for name in found if name is not None)

    async def unfinished(self) -> Sequence[str]:
        """Return the names of which a branch is being made."""
        return sorted({name for name in map(name_of_unfinished, await self._unfinished()) if name is not None})

    async def open(self, name: str) -> LakeFsDataset | None:
        """Return the data set at the present commit of its branch; None for a branch that has no manifest, too."""
        await self._again(self._repository.check)
        ref = await self._branch(branch_of(name))
        if ref is None:
            return None
        try:
            data = await self._again(
                lambda: self._repository.objects.read(ref.commit_id, MANIFEST, MOST_MANIFEST_BYTES)
            )
        except LakeFsObjectMissingError:
            return None
        return LakeFsDataset(self, name, ref.commit_id, read_manifest(data))

    @asynccontextmanager
    async def writing(self, name: str, selection: str) -> AsyncIterator[_Writer]:
        """Give what writes to an unfinished branch; what an earlier process wrote there for the same stays."""
        info = await self._again(self._repository.check)
        if await self._tag(tag_of(name)) is not None or await self._branch(branch_of(name)) is not None:
            raise DatasetExistsError(
                f"a tag {tag_of(name)} or a branch {branch_of(name)} is in {self.where} already, and is no data set; "
                "give another name, or remove it"
            )
        branch = unfinished_branch(name, selection)
        if await self._branch(branch) is None:
            await self._create_empty(info.default_branch)
            await self._again(lambda: self._repository.refs.create_branch(branch, _EMPTY))
        yield _Writer(self, name, branch, await self._again(lambda: self._written(branch)))

    async def complete(self, name: str) -> None:
        """Make the tag of a branch that has none."""
        ref = await self._branch(branch_of(name))
        if ref is not None:
            await self._make_tag(name, ref.commit_id)
            await self._delete_unfinished(name)

    async def delete(self, name: str) -> bool:
        """Remove the tag first: a tag without its branch would only take the name."""
        await self._again(self._repository.check)
        branch, tag = await self._branch(branch_of(name)), await self._tag(tag_of(name))
        if branch is not None:
            if tag is not None and tag.commit_id == branch.commit_id:
                await self._gone(lambda: self._repository.refs.delete_tag(tag_of(name)))
            await self._gone(lambda: self._repository.refs.delete_branch(branch_of(name)))
        return await self._delete_unfinished(name) or branch is not None

    async def close(self) -> None:
        """Close all connections."""
        await self._repository.close()

    async def read(self, commit: str, path: str, most_bytes: int) -> bytes:
        """Return the bytes of a file of a commit. Raises DatasetDamagedError."""
        try:
            return await self._again(lambda: self._repository.objects.read(commit, require_path(path), most_bytes))
        except (LakeFsObjectMissingError, LakeFsTooLargeError) as error:
            raise _damaged(error) from error

    async def fetch(self, commit: str, path: str, target: Path) -> None:
        """Write the bytes of a file of a commit to ``target``. Raises DatasetDamagedError."""
        try:
            await self._again(lambda: self._fetch(commit, require_path(path), target))
        except LakeFsObjectMissingError as error:
            raise _damaged(error) from error

    async def _fetch(self, commit: str, path: str, target: Path) -> None:
        async with self._repository.objects.download(commit, path) as download:
            with target.open("wb") as file:
                async for chunk in download.chunks:
                    await asyncio.to_thread(file.write, chunk)

    async def upload(self, branch: str, path: str, data: bytes, sha256: str) -> None:
        """Write a file to a branch."""
        await self._again(lambda: self._repository.objects.upload(branch, path, data, metadata={_DIGEST: sha256}))

    async def upload_file(self, branch: str, path: str, source: Path, sha256: str, media_type: str) -> None:
        """Write the content of ``source`` to a branch; memory does not grow with its size."""
        await self._again(
            lambda: self._repository.objects.upload_file(
                branch, path, source, media_type=media_type, metadata={_DIGEST: sha256}
            )
        )

    async def finish(self, name: str, branch: str, stale: Sequence[str], manifest: Manifest) -> None:
        """Commit what is on ``branch``, and give the commit the names of the data set."""
        if stale:
            await self._again(lambda: self._repository.objects.remove(branch, stale))
        metadata = {"dataset": name, "dataset_id": manifest.id, "where": manifest.where[:1_000]}
        message = f"Data set {name}: {manifest.pictures} pictures, {manifest.boxes} boxes"
        made = await self._repository.commit(branch, message, manifest.id, metadata)
        if made is None or made.metadata.get(BATCH) != manifest.id:
            raise DatasetBusyError(f"{branch} in {self.where} was changed by somebody else; run the command again")
        if not await self._again(lambda: self._repository.refs.create_branch(branch_of(name), made.id)):
            found = await self.open(name)
            if found is None or found.manifest.id != manifest.id:
                raise DatasetExistsError(
                    f"another process made {branch_of(name)} in {self.where} meanwhile; give another name"
                )
        await self.complete(name)

    async def _make_tag(self, name: str, commit: str) -> None:
        if await self._again(lambda: self._repository.refs.create_tag(tag_of(name), commit)):
            return
        tag = await self._tag(tag_of(name))
        if tag is None or tag.commit_id != commit:
            raise DatasetExistsError(
                f"the data set {name} is complete, but the tag {tag_of(name)} of {self.where} names another commit; "
                "move that tag away, and run the command again"
            )

    async def _create_empty(self, default_branch: str) -> None:
        """Create the branch at the first commit of the repository, unless it is there."""
        if await self._branch(_EMPTY) is not None:
            return
        first = await self._again(lambda: self._first_commit(default_branch))
        await self._again(lambda: self._repository.refs.create_branch(_EMPTY, first))

    async def _first_commit(self, branch: str) -> str:
        first = ""
        async for commit in self._repository.refs.log(branch):
            first = commit.id
        return first

    async def _written(self, branch: str) -> dict[str, str]:
        """Return the hashes of the files that are on a branch, by path."""
        found = self._repository.objects.listed(branch, metadata=True)
        return {each.path: each.metadata.get(_DIGEST, "") async for each in found}

    async def _unfinished(self) -> list[str]:
        await self._again(self._repository.check)
        return [ref.name for ref in await self._branches(UNFINISHED_PREFIX)]

    async def _branches(self, prefix: str) -> Sequence[LakeFsRef]:
        return await self._again(lambda: self._repository.refs.branches(prefix))

    async def _delete_unfinished(self, name: str) -> bool:
        found = [branch for branch in await self._unfinished() if name_of_unfinished(branch) == name]
        for branch in found:
            await self._gone(partial(self._repository.refs.delete_branch, branch))
        return bool(found)

    async def _gone(self, delete: Callable[[], Awaitable[None]]) -> None:
        """Delete something; it is no error when it is gone already."""
        await _unless_missing(self._again(delete))

    async def _branch(self, name: str) -> LakeFsRef | None:
        return await _unless_missing(self._again(lambda: self._repository.refs.branch(name)))

    async def _tag(self, name: str) -> LakeFsRef | None:
        return await _unless_missing(self._again(lambda: self._repository.refs.tag(name)))

    async def _again(self, call: Callable[[], Awaitable[T]]) -> T:
        """Return the result of ``call``, which is made a few times while LakeFS is unavailable."""
        backoff = Backoff(self._retry)
        for attempt in count(1):
            try:
                return await call()
            except LakeFsUnavailableError:
                if attempt == _ATTEMPTS:
                    raise
            await asyncio.sleep(backoff.next_delay_s())
        raise AssertionError("the loop returns or raises")


class LakeFsDataset:
    """Is a data set at a commit; see :class:`console.datasets.stores.port.StoredDataset`."""

    def __init__(self, store: LakeFsDatasets, name: str, commit: str, manifest: Manifest) -> None:
        self._store = store
        self._name = name
        self._commit = commit
        self._manifest = manifest

    @property
    def manifest(self) -> Manifest:
        """What it says about itself."""
        return self._manifest

    async def read(self, path: str, most_bytes: int) -> bytes:
        """Return the bytes of a file."""
        return await self._store.read(self._commit, path, most_bytes)

    async def fetch(self, path: str, target: Path) -> None:
        """Download a file."""
        await self._store.fetch(self._commit, path, target)


class _Writer:
    """Writes the files of one data set to its unfinished branch; those that are there already are not sent again."""

    def __init__(self, store: LakeFsDatasets, name: str, branch: str, written: dict[str, str]) -> None:
        self._store = store
        self._name = name
        self._branch = branch
        self._written = written
        self._added: set[str] = {MANIFEST}

    async def add(self, path: str, data: bytes, sha256: str) -> None:
        """Upload a file."""
        if self._is_new(path, sha256):
            with self._alone():
                await self._store.upload(self._branch, path, data, sha256)

    async def add_file(self, path: str, source: Path, sha256: str, media_type: str) -> None:
        """Upload a file."""
        if self._is_new(path, sha256):
            with self._alone():
                await self._store.upload_file(self._branch, path, source, sha256, media_type)

    async def finish(self, manifest: Manifest) -> None:
        """Add the manifest, commit, and give the commit its names."""
        with self._alone():
            await self._store.upload(self._branch, MANIFEST, manifest.to_bytes(), manifest.id)
            stale = sorted(self._written.keys() - self._added)
            await self._store.finish(self._name, self._branch, stale, manifest)

    @contextmanager
    def _alone(self) -> Iterator[None]:
        try:
            yield
        except LakeFsNotFoundError as error:
            raise DatasetBusyError(
                f"another process completed or deleted the data set {self._name} meanwhile ({error}); run the command "
                "again"
            ) from error

    def _is_new(self, path: str, sha256: str) -> bool:
        self._added.add(require_path(path))
        return self._written.get(path) != sha256


async def _unless_missing(call: Awaitable[T]) -> T | None:
    try:
        return await call
    except LakeFsNotFoundError:
        return None


def _damaged(error: Exception) -> DatasetDamagedError:
    return DatasetDamagedError(f"{error}; the data set is damaged: delete it, and make it again")
