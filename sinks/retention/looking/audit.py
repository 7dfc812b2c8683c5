"""Compares the pictures in the store with the rows of the database, in both directions."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from uuid import UUID

from infra.database.pool import Connection, Database
from infra.storage.frames.addressing import ContentAddress
from infra.storage.frames.port import FrameStore, StoredObject
from sinks.retention.errors import StoresDifferError
from sinks.retention.looking.needs import IS_FRAME_OF_MEDIUM, IS_MEDIUM, IS_OF_NO_JOB, IS_OF_UPLOAD
from sinks.retention.looking.plan import Planned
from sinks.retention.looking.stored import StoredPictures
from sinks.retention.pins import IS_PINNED_PICTURE
from sinks.retention.policy import Policy, Tally
from sinks.retention.settings import RetentionSettings

_VARIABLE = RetentionSettings.variable("max_orphan_share")
_PAGE = 1_000
_LEAST = 1_000
_SHOWN = 20
_FIRST = UUID(int=0)
_EVER = datetime(1, 1, 1, tzinfo=UTC)
_UNKNOWN = f"""
SELECT d.sha256 FROM unnest($1::varchar[]) AS d (sha256)
WHERE NOT EXISTS (SELECT FROM images WHERE images.sha256 = d.sha256)
    AND NOT {IS_OF_UPLOAD.format(row="d")}
    AND NOT {IS_FRAME_OF_MEDIUM.format(row="d")}
    AND NOT {IS_MEDIUM.format(row="d")}
    AND NOT {IS_PINNED_PICTURE.format(row="d")}
"""  # noqa: S608 (constants)
# What a former run has planned is carried out by itself.
_NEW = f"{_UNKNOWN} AND NOT EXISTS (SELECT FROM retention_intents t WHERE t.sha256 = d.sha256)"
_ROWS = f"""
SELECT i.id, i.uploaded_at, i.sha256, i.image_uri,
    {IS_OF_NO_JOB.format(row="i")}
        AND NOT EXISTS (SELECT FROM retention_intents t WHERE t.sha256 = i.sha256) AS needs_bytes
FROM images i WHERE (i.uploaded_at, i.id) > ($1, $2) AND i.uploaded_at < $3
ORDER BY i.uploaded_at, i.id LIMIT $4
"""  # noqa: S608 (constants)


@dataclass(slots=True)
class Audit:
    """Says what has no counterpart."""

    objects: Tally = field(default_factory=Tally)
    rows: int = 0
    orphans: Tally = field(default_factory=Tally)
    """Pictures that no row names, put so long ago that everything about them was read"""
    orphan_uris: list[str] = field(default_factory=list)
    """Some of them"""
    young: int = 0
    """Pictures that no row names yet"""
    missing: int = 0
    """Rows of frames whose picture is not in the store"""
    missing_uris: list[str] = field(default_factory=list)
    """Some of these pictures"""


async def without_rows(connection: Connection, digests: Collection[str]) -> set[str]:
    """Return those of ``digests`` that no row names, and nothing needs."""
    return {row["sha256"] for row in await connection.fetch(_UNKNOWN, list(digests))}


class Auditor:
    """Compares once. ``show`` gets each page of orphans, with ``only_new`` those that no run has planned to remove.

    ``beat`` is called between two pages.
    """

    def __init__(
        self,
        store: FrameStore,
        database: Database,
        policy: Policy,
        max_share: float,
        *,
        only_new: bool = False,
        show: Callable[[Sequence[Planned]], None] = lambda orphans: None,
        beat: Callable[[], None] = lambda: None,
    ) -> None:
        self._store = store
        self._database = database
        self._policy = policy
        self._max_share = max_share
        self._only_new = only_new
        self._show = show
        self._beat = beat
        self.stored = StoredPictures()
        self.found = Audit()

    async def compare(self) -> Audit:
        """Return what was found. Raises StoresDifferError when a share is too large, and the errors of both sides."""
        page: list[StoredObject] = []
        async for stored in self._store.objects():
            page.append(stored)
            if len(page) == _PAGE:
                await self._look_up(page)
                page = []
        if page:
            await self._look_up(page)
        self._require_share(self.found.orphans.pictures, self.found.objects.pictures, "stored pictures have no row")
        await self._look_for_missing()
        self._require_share(self.found.missing, self.found.rows, "frames have no picture in the store")
        return self.found

    async def _look_up(self, page: Sequence[StoredObject]) -> None:
        self._beat()
        by_digest: dict[str, StoredObject] = {}
        for stored in page:
            address = ContentAddress.in_path(stored.uri)
            assert address is not None
            by_digest[address.sha256] = stored
            self.stored.add(address.sha256, stored.modified_at.timestamp())
            self.found.objects.add(stored.size_bytes)
        async with self._database.acquire() as connection:
            statement = _NEW if self._only_new else _UNKNOWN
            unknown = {row["sha256"] for row in await connection.fetch(statement, list(by_digest))}
        orphans: list[Planned] = []
        for digest in sorted(unknown):
            stored = by_digest[digest]
            if stored.modified_at >= self._policy.cutoff("orphan"):
                self.found.young += 1
                continue
            self.found.orphans.add(stored.size_bytes)
            if len(self.found.orphan_uris) < _SHOWN:
                self.found.orphan_uris.append(stored.uri)
            orphans.append(Planned(digest, stored.uri, stored.size_bytes, "orphan"))
        if self.found.objects.pictures >= _LEAST:
            self._require_share(self.found.orphans.pictures, self.found.objects.pictures, "stored pictures have no row")
        self._show(orphans)

    async def _look_for_missing(self) -> None:
        at, last = _EVER, _FIRST
        while True:
            self._beat()
            async with self._database.acquire() as connection:
                rows = await connection.fetch(_ROWS, at, last, self._policy.settled, _PAGE)
            if not rows:
                return
            at, last = rows[-1]["uploaded_at"], rows[-1]["id"]
            for row in rows:
                if not row["needs_bytes"]:
                    continue
                self.found.rows += 1
                if self.stored.put_s(row["sha256"]) is None:
                    self.found.missing += 1
                    if len(self.found.missing_uris) < _SHOWN:
                        self.found.missing_uris.append(row["image_uri"])
            if self.found.rows >= _LEAST:
                self._require_share(self.found.missing, self.found.rows, "frames have no picture in the store")

    def _require_share(self, count: int, of: int, what: str) -> None:
        if of and count / of > self._max_share:
            raise StoresDifferError(
                f"{count} of {of} {what}, more than retention.max_orphan_share ({self._max_share:g}, {_VARIABLE}) "
                "allows: the database and the frame store are probably not of one installation, or one of them was "
                "restored from a backup. Nothing is removed; compare STANDGALE_DATABASE__URL and STANDGALE_FRAMES__* "
                "with those of the gateway, and raise the share only if they are right. `standgale sink rebuild "
                "postgres` brings rows back whose pictures were removed, too: then raise it for one run"
            )
