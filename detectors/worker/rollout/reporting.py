"""Builds a worker's report: each model it has or should have, with its state and its role in the activation."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import datetime
from typing import Literal

from detectors.worker.pipeline.serving import LoadedModel, Roster
from detectors.worker.rollout.model_loader import Version
from detectors.worker.rollout.report_publisher import VALID_INTERVALS, most_urgent_state
from schemas.event_base import ModelRef
from schemas.model_events import AvailabilityState, ModelActivated, ModelAvailability, WorkerAvailability
from schemas.timestamps import utc_now

Role = Literal["stable", "canary"]

OWN = ModelRef(name="detector.model", version="setting")
"""Used in reports for the model of the worker's own setting until it is loaded: its name is not known before."""


@dataclass(frozen=True, slots=True)
class WorkerIdentity:
    """Identifies the worker in the models topic by its roll-out lane and its name, and sets how often it reports."""

    lane: str
    worker: str
    interval_s: float


@dataclass(frozen=True, slots=True)
class PendingVersion:
    """Describes a version that is being loaded for ``role``, or was refused."""

    version: Version
    role: Role
    state: AvailabilityState
    detail: str | None
    since: datetime


@dataclass(slots=True)
class WorkerReport:
    """Collects what a report contains."""

    identity: WorkerIdentity
    roster: Roster | None = None
    activation: ModelActivated | None = None
    settled: bool = False
    """The activation is carried out, or refused (see the event)."""
    pending: dict[Role, PendingVersion] = field(default_factory=dict)
    """Versions that are activated and not in use: being loaded, or refused."""
    artefact_states: dict[LoadedModel, PendingVersion] = field(default_factory=dict)
    """How far the faster engine of each model is."""

    def event(self) -> WorkerAvailability:
        """Return the report of this moment."""
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
        for pending in self.pending.values():
            yield ModelAvailability(
                model=pending.version.ref or OWN,
                role=pending.role,
                state=pending.state,
                serving=False,
                detail=pending.detail,
                since=pending.since,
            )

    def _role(self, stable: LoadedModel) -> Literal["stable", "former"]:
        if self.activation is None:
            return "stable"
        return "stable" if stable.is_version(self.activation.stable, self.activation.sha256) else "former"

    def _availability(
        self, loaded: LoadedModel, role: Literal["stable", "canary", "former"], *, serving: bool
    ) -> ModelAvailability:
        artefact, engine = self.artefact_states.get(loaded), loaded.model.engine
        return ModelAvailability(
            model=loaded.ref,
            role=role,
            state=artefact.state if artefact is not None else "enabled",
            serving=serving,
            engine=engine.name,
            engine_reason=engine.reason,
            detail=artefact.detail if artefact is not None else loaded.complaint,
            since=artefact.since if artefact is not None else loaded.loaded_at,
            loaded_at=loaded.loaded_at,
        )
