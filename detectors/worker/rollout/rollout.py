"""Follows the activations of the worker's roll-out lane, and switches to the activated version between two frames.

While a version is fetched, loaded and checked, the version before is used. A version that is refused changes only the
worker's report: the version in use stays, and the next activation is a new chance. A newer activation replaces one that
is being carried out.
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
from detectors.worker.pipeline.serving import LoadedModel, Roster
from detectors.worker.rollout.model_loader import ModelLoader, Version, chain_of, stable_of
from detectors.worker.rollout.models_topic import (
    ModelsState,
    availability_key,
    availability_record,
    deletion_record,
    read_models,
    read_new_records,
)
from detectors.worker.rollout.report_publisher import ReportPublisher, delete_reports, raise_if_cancelled
from detectors.worker.rollout.reporting import PendingVersion, Role, WorkerIdentity, WorkerReport
from infra.broker.port import Publisher, Reader
from infra.errors import TransientError
from infra.failure.backoff import Backoff
from infra.failure.error_texts import error_text, is_transient
from infra.failure.retry import ConsumerContext, StoppedError
from schemas.model_events import AvailabilityState, ModelActivated
from schemas.timestamps import utc_now

logger = logging.getLogger(__name__)

_FOLLOW = "follow which models are activated"
_FOLLOW_WAIT_S = 5.0
_REPORTS_KEPT = timedelta(days=1)


class _NewerActivationError(Exception):
    """Another version was activated before the first model was loaded."""


class Rollout:
    """Decides which models the roster has: call ``load_first_model``, then ``run``, then ``close``."""

    def __init__(self, identity: WorkerIdentity, loader: ModelLoader, context: ConsumerContext) -> None:
        self._identity = identity
        self._loader = loader
        self._context = context
        self._state = ModelsState()
        self._report = WorkerReport(identity)
        self._reports = ReportPublisher(identity.lane, context.health, self._report.event)
        self._publisher: Publisher | None = None

    @property
    def roster(self) -> Roster:
        """The roster of the worker's models; exists after ``load_first_model``."""
        assert self._report.roster is not None
        return self._report.roster

    def now(self) -> datetime:
        """Return the time by the broker's clock, as the last report showed it: this machine's may be wrong by days."""
        ahead_s = self._publisher.clock_ahead_s() if self._publisher is not None else None
        return utc_now() + timedelta(seconds=ahead_s or 0.0)

    @property
    def _activation(self) -> ModelActivated | None:
        return self._state.activations.get(self._identity.lane)

    @asynccontextmanager
    async def publishing_reports(self, publisher: Publisher) -> AsyncIterator[None]:
        """Publish the worker's report while the block runs, and delete it at the end.

        After an error the last report is kept until it becomes invalid, so that an operator can see why the worker
        ended.
        """
        self._publisher = publisher
        key = availability_key(self._identity.lane, self._identity.worker)
        publishing = self._reports.publish_reports(publisher, self._identity.interval_s)
        task = asyncio.create_task(publishing, name="models-report")
        succeeded = False
        try:
            yield
            succeeded = True
        except StoppedError:
            succeeded = True
            raise
        finally:
            last = deletion_record(key) if succeeded else availability_record(self._report.event())
            task.cancel()
            await asyncio.wait({task})
            self._reports.close()
            await delete_reports(publisher, [last])

    async def read_state(self, reader: Reader, publisher: Publisher) -> None:
        """Read what is activated, and delete old reports of workers that ended without deleting theirs."""
        self._state = await self._context.retry(lambda: read_models(reader), "read the models topic")
        oldest = utc_now() - _REPORTS_KEPT
        old = [key for key, report in self._state.workers.items() if report.reported_at < oldest]
        if old:
            await delete_reports(publisher, [deletion_record(key) for key in old])

    async def load_first_model(self, reader: Reader | None = None) -> None:
        """Load a first model: the activated version, else the version before it, else the model of the setting.

        Waits while the model store is unavailable, or until ``reader`` shows that another version is activated. Raises
        the last error when all of them are refused.
        """
        while True:
            self._report.activation = self._activation
            self._report.pending.clear()
            try:
                await self._load_first_of(chain_of(self._activation), reader)
            except _NewerActivationError:
                logger.info("another model was activated during the wait for this one")
            else:
                return

    async def _load_first_of(self, chain: Sequence[Version], reader: Reader | None) -> None:
        check = partial(self._raise_if_newer, reader) if reader is not None else None
        for index, version in enumerate(chain):
            if index == 0:
                self._set_target("stable", version, "downloading")
            try:
                fetch = partial(self._loader.fetch, version, busy=False)
                card = await self._context.retry(fetch, f"fetch {version}", check)
                loaded = await self._loader.load(card, busy=False)
            except (StoppedError, _NewerActivationError):
                raise
            except Exception as error:
                logger.exception("%s cannot be used", version)
                last = index == len(chain) - 1
                if index == 0 or last:
                    self._set_target("stable", chain[0], "error" if last else "warning", error_text(error))
                if last:
                    raise
                continue
            self._serve_first(loaded, fallback=index > 0)
            return

    async def _raise_if_newer(self, reader: Reader) -> None:
        """Raise _NewerActivationError when another version is activated now."""
        before = self._activation
        with suppress(TransientError):
            await read_new_records(reader, self._state, 0)
        if self._activation != before:
            raise _NewerActivationError

    def _serve_first(self, loaded: LoadedModel, *, fallback: bool) -> None:
        if not fallback:
            self._report.pending.clear()
        roster = Roster(loaded)
        roster.call_when_drained(self._reports.report_changed)
        self._report.roster = roster
        self._reports.report_changed()

    async def run(self, reader: Reader) -> None:
        """Follow the topic and carry out each activation, until cancelled."""
        done = self._activation
        async with asyncio.TaskGroup() as group:
            applying = group.create_task(self._apply_activation(done, at_start=True), name="rollout")
            async for _ in self._wait_for_changes(reader):
                if self._activation != done:
                    done = self._activation
                    applying.cancel()
                    applying = group.create_task(self._apply_activation(done), name="rollout")

    async def _wait_for_changes(self, reader: Reader) -> AsyncIterator[None]:
        """Yield when there may be a change; none while the broker is unavailable, which the poll loop reports."""
        backoff = Backoff(self._context.policy)
        while True:
            try:
                await read_new_records(reader, self._state, _FOLLOW_WAIT_S)
                backoff.reset()
                self._reports.set_waiting_for_person(_FOLLOW, None)
            except TransientError as error:
                self._reports.set_waiting_for_person(_FOLLOW, error)
                await asyncio.sleep(backoff.next_delay_s())
            raise_if_cancelled()
            yield

    async def _apply_activation(self, activation: ModelActivated | None, *, at_start: bool = False) -> None:
        """Load and use the versions of ``activation``; ``at_start``: its stable version was tried already."""
        report, roster = self._report, self.roster
        stable = stable_of(activation)
        canary = activation.canary if activation is not None else None
        canary_version = Version(canary.model, canary.sha256) if canary is not None else None
        canary_name = None if canary_version is None else self._name_of(canary_version)
        logger.info("rolling out", extra={"stable": self._name_of(stable), "canary": canary_name})
        report.activation, report.settled = activation, False
        if not at_start:
            report.pending.clear()
        # A version that is loaded is used at once, and a canary that was ended gets no more frames.
        self._set_models(
            self._find_loaded(stable) or roster.stable, self._find_loaded(canary_version) if canary_version else None
        )
        if "stable" not in report.pending and self._find_loaded(stable) is None:
            loaded = await self._load_version("stable", stable)
            if loaded is not None:
                self._set_models(loaded, roster.canary)
        if canary_version is not None and roster.canary is None:
            loaded = await self._load_version("canary", canary_version)
            if loaded is not None:
                self._set_models(roster.stable, loaded)
        report.settled = True
        self._reports.report_changed()
        await self._switch_to_faster_engine(roster.stable)
        if roster.canary is not None:
            await self._switch_to_faster_engine(roster.canary)

    def _find_loaded(self, version: Version) -> LoadedModel | None:
        """Return the model that is loaded, gets frames and is ``version``."""
        for loaded in (self.roster.stable, self.roster.canary):
            if loaded is not None and loaded.is_version(version.ref, version.sha256):
                return loaded
        return None

    def _name_of(self, version: Version) -> str:
        """Return name and version of the model, also of the worker's own one if it is loaded."""
        loaded = self._find_loaded(version)
        return str(version) if loaded is None else f"{loaded.ref.name} {loaded.ref.version}"

    def _set_models(self, stable: LoadedModel, canary: LoadedModel | None) -> None:
        activation = self._report.activation
        self.roster.set_models(stable, canary, activation.canary if activation is not None else None)
        self._reports.report_changed()

    async def _load_version(self, role: Role, version: Version) -> LoadedModel | None:
        """Fetch and load ``version``; return None when it is refused, and put the reason into the report."""
        try:
            card = await self._fetch_with_retries(role, version)
            self._set_target(role, version, "downloading", "loading and checking it")
            loaded = await self._loader.load(card, busy=True)
        except Exception as error:
            logger.exception("%s is refused; the version in use stays", version)
            self._set_target(role, version, "warning", error_text(error))
            MODEL_SWAPS.labels(self._identity.lane, "refused").inc()
            return None
        self._report.pending.pop(role)
        MODEL_SWAPS.labels(self._identity.lane, "done").inc()
        return loaded

    async def _fetch_with_retries(self, role: Role, version: Version) -> Path | None:
        """Fetch ``version`` and return its card; waits as long as the store is unavailable: another model is in use."""
        backoff = Backoff(self._context.policy)
        detail: str | None = None
        while True:
            self._set_target(role, version, "downloading", detail)
            try:
                return await self._loader.fetch(version, busy=True)
            except Exception as error:
                if not is_transient(error):
                    raise
                detail = error_text(error)
                logger.warning("%s cannot be fetched yet: %s", version, detail)
            await asyncio.sleep(backoff.next_delay_s())

    def _set_target(self, role: Role, version: Version, state: AvailabilityState, detail: str | None = None) -> None:
        former = self._report.pending.get(role)
        same = former is not None and (former.version, former.state) == (version, state)
        since: datetime = former.since if same and former is not None else utc_now()
        self._report.pending[role] = PendingVersion(version, role, state, detail, since)
        self._reports.report_changed()

    async def _switch_to_faster_engine(self, loaded: LoadedModel) -> None:
        """Replace ``loaded`` by the same model on a faster engine, if one can be made."""
        if loaded.faster_engine_tried:
            return

        def on_state(state: AvailabilityState, detail: str | None) -> None:
            self._report.artefact_states[loaded] = PendingVersion(
                Version(loaded.ref), "stable", state, detail, utc_now()
            )
            self._reports.report_changed()

        try:
            better = await self._loader.load_faster(loaded, on_state)
        except Exception as error:
            logger.exception("no faster engine for %s %s", loaded.ref.name, loaded.ref.version)
            loaded.complaint = error_text(error)
            better = None
        finally:
            self._report.artefact_states.pop(loaded, None)
        (better or loaded).faster_engine_tried = True
        roster = self.roster
        if better is None:
            self._reports.report_changed()
        elif loaded is roster.canary and loaded is not roster.stable:
            self._set_models(roster.stable, better)
        else:
            self._set_models(better, better if loaded is roster.canary else roster.canary)

    async def close(self) -> None:
        """Close all models; no frame may be in progress."""
        await self._loader.close()
        if self._report.roster is not None:
            await self._report.roster.close()
