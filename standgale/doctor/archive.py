"""Checks that LakeFS takes the key of the settings, has repository and branch, and lets the key write and remove."""

from __future__ import annotations

from collections.abc import Sequence
from uuid import uuid4

from infra.lakefs.errors import LakeFsNotFoundError
from infra.lakefs.repository import LakeFsRepository
from sinks.lakefs.lakefs_archive import access_of
from sinks.lakefs.port import MAIN
from standgale.doctor.port import Finding, ok
from standgale.settings import Settings


class ArchiveCheck:
    """Looks up repository and branch, with the key that the sink uses, and writes and removes a small object.

    Of an archive in a folder the disks are checked.
    """

    subject = "archive"

    def __init__(self, settings: Settings) -> None:
        self._settings = settings.lakefs

    async def look(self) -> Sequence[Finding]:
        """See :class:`.port.Check`."""
        settings = self._settings
        if settings.kind == "folder":
            return []
        lakefs = LakeFsRepository(access_of(settings))
        try:
            await lakefs.check()
            branch = f"the branch {settings.branch} is there"
            try:
                await lakefs.refs.branch(settings.branch)
            except LakeFsNotFoundError:
                if settings.branch == MAIN:
                    raise
                branch = f"the branch {settings.branch} will be created from {MAIN}"
            else:
                # Nothing is left that a commit of the sink could take.
                path = f".standgale-doctor/{uuid4()}"
                await lakefs.objects.upload(settings.branch, path, b"standgale")
                await lakefs.objects.remove(settings.branch, [path])
                branch += ", and an object was written to it and removed"
        finally:
            await lakefs.close()
        return [ok(f"lakefs://{settings.repository} at {settings.endpoint_url} takes the key, {branch}")]
