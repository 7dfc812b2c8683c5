"""Finds, makes and removes branches and tags, and reads and makes commits."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence
from urllib.parse import quote

from infra.lakefs.entries import LakeFsCommit, LakeFsRef, LakeFsRepositoryInfo
from infra.lakefs.errors import LakeFsConflictError, LakeFsRequestError
from infra.lakefs.requests import PAGE, LakeFsRequests

_NOTHING_NEW = "no changes"


class LakeFsRefs:
    """Reaches the branches, tags and commits of one repository; raises as :class:`LakeFsObjects` does."""

    def __init__(self, requests: LakeFsRequests) -> None:
        self._requests = requests

    async def repository(self) -> LakeFsRepositoryInfo:
        """Return the repository; the call that tells a wrong address, a wrong key and a missing repository."""
        what = "find the repository"
        data = await self._requests.json("GET", "", what)
        return LakeFsRepositoryInfo.from_json(self._requests.parsed(what, data, "id", "storage_namespace"))

    async def branch(self, name: str) -> LakeFsRef:
        """Return the branch. Raises LakeFsNotFoundError."""
        return await self._ref("branches", name)

    async def tag(self, name: str) -> LakeFsRef:
        """Return the tag. Raises LakeFsNotFoundError."""
        return await self._ref("tags", name)

    async def create_branch(self, name: str, source: str) -> bool:
        """Create a branch at ``source`` (a branch, tag or commit); return False when there is one of that name."""
        return await self._create("/branches", f"create the branch {name}", {"name": name, "source": source})

    async def create_tag(self, name: str, ref: str) -> bool:
        """Create a tag at ``ref``; return False when there is one of that name, whatever it points to.

        A tag does not keep a commit from the garbage collection of LakeFS; a branch does.
        """
        return await self._create("/tags", f"create the tag {name}", {"id": name, "ref": ref})

    async def delete_branch(self, name: str) -> None:
        """Delete a branch. Raises LakeFsNotFoundError."""
        await self._requests.json("DELETE", f"/branches/{quote(name, safe='')}", f"delete the branch {name}")

    async def delete_tag(self, name: str) -> None:
        """Delete a tag. Raises LakeFsNotFoundError."""
        await self._requests.json("DELETE", f"/tags/{quote(name, safe='')}", f"delete the tag {name}")

    async def branches(self, prefix: str = "") -> Sequence[LakeFsRef]:
        """Return all branches whose names begin with ``prefix``, by name."""
        found = self._requests.listed("/branches", "list the branches", {"prefix": prefix}, "id", "commit_id")
        return [LakeFsRef.from_json(entry) async for entry in found]

    async def has_changes(self, branch: str) -> bool:
        """Whether something on ``branch`` is not committed."""
        what = f"compare {branch} with its last commit"
        data = await self._requests.json("GET", f"/branches/{quote(branch, safe='')}/diff", what, {"amount": "1"})
        return bool(self._requests.parsed(what, data, "results")["results"])

    async def commit(self, branch: str, message: str, metadata: Mapping[str, str]) -> LakeFsCommit | None:
        """Commit what is staged on ``branch``, by anybody; return None when there is nothing to commit.

        Once. See :func:`infra.lakefs.commits.commit_staged` for what a sink or a store needs.
        """
        what = f"commit on {branch}"
        body = {"message": message, "metadata": dict(metadata)}
        try:
            data = await self._requests.json("POST", f"/branches/{quote(branch, safe='')}/commits", what, json=body)
        except LakeFsRequestError as error:
            if _NOTHING_NEW in str(error):
                return None
            raise
        return LakeFsCommit.from_json(self._requests.parsed(what, data, "id"))

    async def log(self, ref: str, *, page: int = PAGE) -> AsyncIterator[LakeFsCommit]:
        """Yield the commits of ``ref``, the newest first; ``page`` is how many are read at once."""
        path = f"/refs/{quote(ref, safe='')}/commits"
        async for entry in self._requests.listed(path, f"read the commits of {ref}", {}, "id", page=page):
            yield LakeFsCommit.from_json(entry)

    async def _ref(self, kind: str, name: str) -> LakeFsRef:
        what = f"find {name} among the {kind}"
        data = await self._requests.json("GET", f"/{kind}/{quote(name, safe='')}", what)
        return LakeFsRef.from_json(self._requests.parsed(what, data, "id", "commit_id"))

    async def _create(self, path: str, what: str, body: Mapping[str, str]) -> bool:
        try:
            await self._requests.create(path, what, body)
        except LakeFsConflictError:
            return False
        return True
