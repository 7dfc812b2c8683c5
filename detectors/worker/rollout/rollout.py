"""Rolling models out: follows what is activated for the worker's lane, and puts it into service between two frames.

While a version is fetched, loaded and checked, the one before serves. One that is refused changes nothing but the
worker's report: what serves goes on, and the next activation is a new chance. A newer activation takes the place of
one that is under way.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, suppress
from datetime import datetime, timedelta
from functools import partial
from pathlib import Path

from detectors.metrics import MODEL_SWAPS
from detectors.worker.pipeline.serving import Roster, Served
from detectors.worker.rollout.model_loader import Obtainer, Version, chain_of, stable_of
from detectors.worker.rollout.models_topic import (
    ModelsState,
    availability_key,
    availability_record,
    catch_up,
    farewell,
    read_models,
)
from detectors.worker.rollout.report_publisher import Board, end_if_cancelled, say_farewell
from detectors.worker.rollout.reporting import Place, Report, Role, Target
from infra.broker.port import Publisher, Reader
from infra.errors import TransientError
from infra.failure.error_texts import error_text, is_transient
from infra.failure.retry import Backoff, ConsumerContext, StoppedError
from schemas.events import AvailabilityState, ModelActivated
from schemas.timestamps import utc_now

logger = logging.getLogger(__name__)

_FOLLOW = "follow which models are activated"
_FOLLOW_WAIT_S = 5.0
_FORGOTTEN_AFTER = timedelta(days=1)


class _OvertakenError(Exception):
    """Something else was activated before a first model was there."""


class Rollout:
    """Decides what the worker's roster has: ``begin``, then ``run`` beside the work, then ``close``."""

    def __init__(self, place: Place, obtainer: Obtainer, work: ConsumerContext) -> None:
        self._place = place
        self._obtainer = obtainer
        self._work = work
        self._state = ModelsState()
        self._report = Report(place)
        self._board = Board(place.lane, work.health, self._report.event)
        self._publisher: Publisher | None = None

    @property
    def roster(self) -> Roster:
        """Which model takes which frame; there is one once ``begin`` is through."""
        assert self._report.roster is not None
        return self._report.roster

    def now(self) -> datetime:
        """This moment by the broker's clock, as the last report showed it: this machine's own may be wrong by days."""
        ahead_s = self._publisher.clock_ahead_s() if self._publisher is not None else None
        return utc_now() + timedelta(seconds=ahead_s or 0.0)

    @property
    def _activation(self) -> ModelActivated | None:
        return self._state.activations.get(self._place.lane)

    @asynccontextmanager
    async def telling(self, publisher: Publisher) -> AsyncIterator[None]:
        """Inside the block others are told which models the worker has; at its end that it has left.

        After an error the last report stands until it is old, for whoever wants to know why the worker is gone.
        """
        self._publisher = publisher
        key = availability_key(self._place.lane, self._place.worker)
        telling = self._board.keep_telling(publisher, self._place.interval_s)
        task = asyncio.create_task(telling, name="models-report")
        well = False
        try:
            yield
            well = True
        finally:
            last = farewell(key) if well else availability_record(self._report.event())
            task.cancel()
            await asyncio.wait({task})
            self._board.close()
            await say_farewell(publisher, [last])

    async def read(self, reader: Reader, publisher: Publisher) -> None:
        """Learn what is activated, and take away the reports of workers that went without a word long ago."""
        self._state = await self._work.retry(lambda: read_models(reader), "read the models topic")
        forgotten = utc_now() - _FORGOTTEN_AFTER
        old = [key for key, report in self._state.workers.items() if report.reported_at < forgotten]
        if old:
            await say_farewell(publisher, [farewell(key) for key in old])

    async def begin(self, news: Reader | None = None) -> None:
        """Have a first model: the one activated, else the one before it, else the one of the setting.

        Waits while the model store is away, or until ``news`` tells that another one was activated meanwhile. Raises
        the last refusal when all of them are refused.
        """
        while True:
            self._report.activation = self._activation
            self._report.targets.clear()
            try:
                await self._first_of(chain_of(self._activation), news)
            except _OvertakenError:
                logger.info("another model was activated while this one was waited for")
            else:
                return

    async def _first_of(self, chain: Sequence[Version], news: Reader | None) -> None:
        look = partial(self._look, news) if news is not None else None
        for place, version in enumerate(chain):
            if place == 0:
                self._target("stable", version, "downloading")
            try:
                fetch = partial(self._obtainer.fetch, version, busy=False)
                card = await self._work.retry(fetch, f"fetch {version}", look)
                served = await self._obtainer.load(card, busy=False)
            except (StoppedError, _OvertakenError):
                raise
            except Exception as error:
                logger.exception("%s cannot serve", version)
                last = place == len(chain) - 1
                if place == 0 or last:
                    self._target("stable", chain[0], "error" if last else "warning", error_text(error))
                if last:
                    raise
                continue
            self._start_with(served, fallback=place > 0)
            return

    async def _look(self, news: Reader) -> None:
        """Raise when something else is activated by now."""
        before = self._activation
        with suppress(TransientError):
            await catch_up(news, self._state, 0)
        if self._activation != before:
            raise _OvertakenError

    def _start_with(self, served: Served, *, fallback: bool) -> None:
        if not fallback:
            self._report.targets.clear()
        roster = Roster(served)
        roster.on_drained(self._board.changed)
        self._report.roster = roster
        self._board.changed()

    async def run(self, reader: Reader) -> None:
        """Follow the topic and do what it says, until cancelled."""
        done = self._activation
        async with asyncio.TaskGroup() as group:
            reaching = group.create_task(self._reach(done, at_start=True), name="rollout")
            async for _ in self._news(reader):
                if self._activation != done:
                    done = self._activation
                    reaching.cancel()
                    reaching = group.create_task(self._reach(done), name="rollout")

    async def _news(self, reader: Reader) -> AsyncIterator[None]:
        """Yields when something may be new. While the broker is away there is no news; the poll loop tells of that."""
        backoff = Backoff(self._work.policy)
        while True:
            try:
                await catch_up(reader, self._state, _FOLLOW_WAIT_S)
                backoff.reset()
                self._board.waits_for_person(_FOLLOW, None)
            except TransientError as error:
                self._board.waits_for_person(_FOLLOW, error)
                await asyncio.sleep(backoff.next_delay_s())
            end_if_cancelled()
            yield

    async def _reach(self, activation: ModelActivated | None, *, at_start: bool = False) -> None:
        """Have what ``activation`` asks for; ``at_start``: its stable version was tried already."""
        report, roster = self._report, self.roster
        stable = stable_of(activation)
        canary = activation.canary if activation is not None else None
        trial = Version(canary.model, canary.sha256) if canary is not None else None
        logger.info("rolling out", extra={"stable": str(stable), "canary": str(trial) if trial else None})
        report.activation, report.settled = activation, False
        if not at_start:
            report.targets.clear()
        # What is loaded serves at once, and a trial that is over takes no further frame.
        self._use(self._have(stable) or roster.stable, self._have(trial) if trial else None)
        if "stable" not in report.targets and self._have(stable) is None:
            served = await self._obtain("stable", stable)
            if served is not None:
                self._use(served, roster.canary)
        if trial is not None and roster.canary is None:
            served = await self._obtain("canary", trial)
            if served is not None:
                self._use(roster.stable, served)
        report.settled = True
        self._board.changed()
        await self._upgrade(roster.stable)
        if roster.canary is not None:
            await self._upgrade(roster.canary)

    def _have(self, version: Version) -> Served | None:
        """The model that is loaded and takes frames and is ``version``."""
        for served in (self.roster.stable, self.roster.canary):
            if served is not None and served.is_version(version.ref, version.sha256):
                return served
        return None

    def _use(self, stable: Served, canary: Served | None) -> None:
        activation = self._report.activation
        self.roster.use(stable, canary, activation.canary if activation is not None else None)
        self._board.changed()

    async def _obtain(self, role: Role, version: Version) -> Served | None:
        """``version``, ready to serve, or None when it is refused; the report says why."""
        try:
            card = await self._fetched(role, version)
            self._target(role, version, "downloading", "loading and checking it")
            served = await self._obtainer.load(card, busy=True)
        except Exception as error:
            logger.exception("%s is refused, what serves goes on", version)
            self._target(role, version, "warning", error_text(error))
            MODEL_SWAPS.labels(self._place.lane, "refused").inc()
            return None
        self._report.targets.pop(role)
        MODEL_SWAPS.labels(self._place.lane, "done").inc()
        return served

    async def _fetched(self, role: Role, version: Version) -> Path | None:
        """Where ``version`` lies; waits while the model store is away, for another model serves meanwhile."""
        backoff = Backoff(self._work.policy)
        detail: str | None = None
        while True:
            self._target(role, version, "downloading", detail)
            try:
                return await self._obtainer.fetch(version, busy=True)
            except Exception as error:
                if not is_transient(error):
                    raise
                detail = error_text(error)
                logger.warning("%s cannot be fetched yet: %s", version, detail)
            await asyncio.sleep(backoff.next_delay_s())

    def _target(self, role: Role, version: Version, state: AvailabilityState, detail: str | None = None) -> None:
        former = self._report.targets.get(role)
        same = former is not None and (former.version, former.state) == (version, state)
        since: datetime = former.since if same and former is not None else utc_now()
        self._report.targets[role] = Target(version, role, state, detail, since)
        self._board.changed()

    async def _upgrade(self, served: Served) -> None:
        """Put ``served`` onto a faster engine, where there is one; without it things stay as they are."""
        if served.upgraded:
            return

        def on_state(state: AvailabilityState, detail: str | None) -> None:
            self._report.upgrades[served] = Target(Version(served.ref), "stable", state, detail, utc_now())
            self._board.changed()

        try:
            better = await self._obtainer.upgraded(served, on_state)
        except Exception as error:
            logger.exception("no faster engine for %s %s", served.ref.name, served.ref.version)
            served.complaint = error_text(error)
            better = None
        finally:
            self._report.upgrades.pop(served, None)
        (better or served).upgraded = True
        roster = self.roster
        if better is None:
            self._board.changed()
        elif served is roster.canary and served is not roster.stable:
            self._use(roster.stable, better)
        else:
            self._use(better, better if served is roster.canary else roster.canary)

    async def close(self) -> None:
        """Close all models; no frame may be under way."""
        await self._obtainer.close()
        if self._report.roster is not None:
            await self._report.roster.close()
