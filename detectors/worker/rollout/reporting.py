"""A worker's report: every model it has or was told to have, its state, and what it is to the newest activation."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import datetime
from typing import Literal

from detectors.worker.pipeline.serving import LoadedModel, Roster
from detectors.worker.rollout.model_loader import Version
from detectors.worker.rollout.report_publisher import VALID_INTERVALS, most_urgent_state
from schemas.events import AvailabilityState, ModelActivated, ModelAvailability, ModelRef, WorkerAvailability
from schemas.timestamps import utc_now

Role = Literal["stable", "canary"]

OWN = ModelRef(name="detector.model", version="setting")
"""Stands in reports for the model of the worker's own setting while it is not loaded, so that nobody knows its name."""


@dataclass(frozen=True, slots=True)
class WorkerIdentity:
    """Who the worker is in the models topic: its lane, its name, and how often it tells its state."""

    lane: str
    worker: str
    interval_s: float


@dataclass(frozen=True, slots=True)
class PendingVersion:
    """A version on its way to ``role``, or refused."""

    version: Version
    role: Role
    state: AvailabilityState
    detail: str | None
    since: datetime


@dataclass(slots=True)
class WorkerReport:
    """What there is to tell.

    targets: versions that were activated and do not serve, yet or at all; upgrades: how far the faster engine of a
    model is; settled: see the event.
    """

    identity: WorkerIdentity
    roster: Roster | None = None
    activation: ModelActivated | None = None
    settled: bool = False
    pending: dict[Role, PendingVersion] = field(default_factory=dict)
    artefact_states: dict[LoadedModel, PendingVersion] = field(default_factory=dict)

    def event(self) -> WorkerAvailability:
        """The report as it is now."""
        models = list(self._models())
        return WorkerAvailability(
            lane=self.identity.lane,
            worker=self.identity.worker,
            activation=self.activation.id if self.activation is not None else None,
            settled=self.settled,
            state=most_urgent_state(models),
            models=models,
            reported_at=utc_now(),
            valid_s=VALID_INTERVALS * self.identity.interval_s,
        )

    def _models(self) -> Iterator[ModelAvailability]:
        roster = self.roster
        if roster is not None:
            yield self._availability(roster.stable, self._role(roster.stable), serving=True)
            if roster.canary is not None and roster.canary is not roster.stable:
                yield self._availability(roster.canary, "canary", serving=True)
            for loaded in roster.draining:
                yield self._availability(loaded, "former", serving=False)
        for target in self.pending.values():
            yield ModelAvailability(
                model=target.version.ref or OWN,
                role=target.role,
                state=target.state,
                serving=False,
                detail=target.detail,
                since=target.since,
            )

    def _role(self, stable: LoadedModel) -> Literal["stable", "former"]:
        if self.activation is None:
            return "stable"
        return "stable" if stable.is_version(self.activation.stable, self.activation.sha256) else "former"

    def _availability(
        self, loaded: LoadedModel, role: Literal["stable", "canary", "former"], *, serving: bool
    ) -> ModelAvailability:
        upgrade, engine = self.artefact_states.get(loaded), loaded.model.engine
        return ModelAvailability(
            model=loaded.ref,
            role=role,
            state=upgrade.state if upgrade is not None else "enabled",
            serving=serving,
            engine=engine.name,
            engine_reason=engine.reason,
            detail=upgrade.detail if upgrade is not None else loaded.complaint,
            since=upgrade.since if upgrade is not None else loaded.loaded_at,
            loaded_at=loaded.loaded_at,
        )
