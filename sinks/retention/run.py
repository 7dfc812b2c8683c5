"""Runs retention once: finds what groups have read, compares store and rows, plans, and removes."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import suppress
from copy import deepcopy
from datetime import datetime, timedelta

from infra.broker.port import Admin
from infra.database.pool import Database
from infra.storage.frames.port import FrameStore
from schemas.errors import StandgaleError
from schemas.timestamps import utc_now
from sinks.retention.errors import RetentionHeldError
from sinks.retention.looking.audit import Audit, Auditor
from sinks.retention.looking.plan import Plan, Planned
from sinks.retention.looking.settled import settled_before
from sinks.retention.looking.stored import StoredPictures
from sinks.retention.metrics import STORAGE_BYTES
from sinks.retention.policy import Policy, RunReport, Tally
from sinks.retention.port import FrameArchive
from sinks.retention.removal.intents import write_intents
from sinks.retention.removal.lease import RemovalLease
from sinks.retention.removal.remover import Remover
from sinks.retention.settings import RetentionSettings

_WAIT_S = 90.0
_CLOCKS = timedelta(minutes=10)
_NOW = "SELECT clock_timestamp()"
_BEGIN = "INSERT INTO retention_runs (began_at) VALUES ($1) RETURNING id"
_END = """
UPDATE retention_runs SET ended_at = clock_timestamp(), pictures = $2, frames = $3, bytes = $4, spared = $5,
    over_bytes = $6, stored_bytes = $7
WHERE id = $1
"""
_FORGET = "DELETE FROM retention_runs WHERE began_at < clock_timestamp() - interval '400 days'"


class Retention:
    """Runs the policy over one frame store, its archive and its database."""

    def __init__(
        self,
        store: FrameStore,
        database: Database,
        admin: Admin,
        settings: RetentionSettings,
        archive: FrameArchive | None = None,
        *,
        wait_s: float = _WAIT_S,
        tell: Callable[[str], None] = lambda text: None,
    ) -> None:
        """``wait_s``: how long to wait for groups that read at this moment; ``tell`` gets the text that it waits."""
        self._store = store
        self._database = database
        self._admin = admin
        self._settings = settings
        self._wait_s = wait_s
        self._tell = tell
        self._lease = RemovalLease(database)
        self._remover = Remover(store, database, archive, self._lease)

    async def look(
        self,
        show: Callable[[Sequence[Planned]], None] = lambda page: None,
        beat: Callable[[], None] = lambda: None,
        *,
        as_if_read: bool = False,
    ) -> RunReport:
        """Return what a run would do now, and do nothing; ``show`` gets each page of what would be removed.

        ``as_if_read``: as if all consumer groups had read everything, so that none is asked or waited for. Raises
        RetentionHeldError, StoresDifferError, and the errors of broker, store and database.
        """
        policy = await self._policy(as_if_read=as_if_read)
        report = RunReport(policy.now)
        stored = await self._compare(policy, report, show, beat)
        plan = Plan(self._database, policy, stored, report)
        async for page in plan.pages():
            show(page)
            beat()
        await plan.count_young()
        return report

    async def audit(self, beat: Callable[[], None] = lambda: None) -> Audit:
        """Return what has no counterpart; the errors are those of :meth:`look`."""
        policy = await self._policy()
        return await Auditor(self._store, self._database, policy, self._settings.max_orphan_share, beat=beat).compare()

    async def run(self, beat: Callable[[], None] = lambda: None) -> RunReport:
        """Remove what the policy says, and what a run that was killed had planned; return what was done.

        Raises RetentionBusyError while another process does, and the errors of :meth:`look`.
        """
        await self._lease.renew()
        try:
            return await self._run(beat)
        finally:
            # Where the database does not respond, the lease ends by itself.
            with suppress(StandgaleError):
                await self._lease.give_back()

    async def _run(self, beat: Callable[[], None]) -> RunReport:
        policy = await self._policy()
        report = RunReport(policy.now)
        async with self._database.acquire(writing=True) as connection:
            number: int = await connection.fetchval(_BEGIN, policy.now)
        orphans: list[Planned] = []
        # First of all: where store and database do not belong together, a former plan is not carried out either.
        stored = await self._compare(policy, report, orphans.extend, beat, only_new=True)
        await self._remover.carry_out(policy, report, beat)
        report.leftovers = deepcopy(report.removed)
        await self._write_down(orphans, policy)
        async for page in Plan(self._database, policy, stored, report).pages():
            beat()
            await self._write_down(page, policy)
        await self._remover.carry_out(policy, report, beat)
        await self._end(number, report)
        return report

    async def _policy(self, *, as_if_read: bool = False) -> Policy:
        async with self._database.acquire() as connection:
            now: datetime = await connection.fetchval(_NOW)
        if abs(now - utc_now()) > _CLOCKS:
            raise RetentionHeldError(
                f"the clock of the database says {now:%Y-%m-%d %H:%M:%S} UTC, the clock of this machine "
                f"{utc_now():%Y-%m-%d %H:%M:%S}: one of them is wrong, and frames would be too old by it; set it right"
            )
        if as_if_read:
            return Policy.of(self._settings, now, now)
        settled = await settled_before(self._admin, self._database, wait_s=self._wait_s, tell=self._tell)
        if settled.before is None:
            raise RetentionHeldError(f"no frame can be removed yet: {settled.why}")
        return Policy.of(self._settings, now, settled.before)

    async def _compare(
        self,
        policy: Policy,
        report: RunReport,
        show: Callable[[Sequence[Planned]], None],
        beat: Callable[[], None],
        *,
        only_new: bool = False,
    ) -> StoredPictures:
        share = self._settings.max_orphan_share
        auditor = Auditor(self._store, self._database, policy, share, only_new=only_new, show=show, beat=beat)
        found = await auditor.compare()
        STORAGE_BYTES.set(found.objects.bytes)
        report.objects = Tally(found.objects.pictures, found.objects.bytes)
        if found.orphans.pictures:
            report.planned["orphan"] = found.orphans
        return auditor.stored

    async def _write_down(self, planned: Sequence[Planned], policy: Policy) -> None:
        if planned:
            async with self._database.acquire(writing=True) as connection:
                await self._lease.renew_in(connection)
                await write_intents(connection, planned, policy.now)

    async def _end(self, number: int, report: RunReport) -> None:
        removed = report.removed.values()
        stored = report.objects.bytes - sum(tally.bytes for tally in removed)
        async with self._database.acquire(writing=True) as connection:
            await connection.execute(
                _END,
                number,
                sum(tally.pictures for tally in removed),
                report.removed_frames,
                sum(tally.bytes for tally in removed),
                report.spared,
                report.over_bytes,
                stored,
            )
            await connection.execute(_FORGET)
