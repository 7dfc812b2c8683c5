"""Opens one repository of a LakeFS server: its objects, and its branches, tags and commits."""

from __future__ import annotations

from collections.abc import Mapping

from infra.lakefs.access import LakeFsAccess
from infra.lakefs.commits import commit_staged
from infra.lakefs.entries import LakeFsCommit, LakeFsRepositoryInfo
from infra.lakefs.objects import LakeFsObjects
from infra.lakefs.refs import LakeFsRefs
from infra.lakefs.requests import LakeFsRequests


class LakeFsRepository:
    """Is the client of one repository. Use it from one event loop; it connects at the first call."""

    def __init__(self, access: LakeFsAccess) -> None:
        self._requests = LakeFsRequests(access)
        self.objects = LakeFsObjects(self._requests)
        self.refs = LakeFsRefs(self._requests)
        self._info: LakeFsRepositoryInfo | None = None

    @property
    def where(self) -> str:
        """The repository and its server, for texts."""
        return self._requests.where

    async def check(self) -> LakeFsRepositoryInfo:
        """Return the repository, read once: this tells a wrong address, a wrong key and a missing repository.

        A wrong address would return a web page for an object; so call it before the first object is read.
        """
        if self._info is None:
            self._info = await self.refs.repository()
        return self._info

    async def commit(
        self, branch: str, message: str, batch: str, metadata: Mapping[str, str] | None = None
    ) -> LakeFsCommit | None:
        """Commit what is staged on ``branch``; see :func:`commit_staged`."""
        return await commit_staged(self.refs, branch, message, batch, metadata)

    async def close(self) -> None:
        """Close all connections; may be repeated."""
        await self._requests.close()
