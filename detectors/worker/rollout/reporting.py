"""A worker's report: every model it has or was told to have, its state, and what it is to the newest activation."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import datetime
from typing import Literal

from detectors.worker.pipeline.serving import Roster, Served
from detectors.worker.rollout.model_loader import Version
from detectors.worker.rollout.report_publisher import VALID_INTERVALS, overall
from schemas.events import AvailabilityState, ModelActivated, ModelAvailability, ModelRef, WorkerAvailability
from schemas.timestamps import utc_now

Role = Literal["stable", "canary"]

OWN = ModelRef(name="detector.model", version="setting")
"""Stands in reports for the model of the worker's own setting while it is not loaded, so that nobody knows its name."""


@dataclass(frozen=True, slots=True)
class Place:
    """Who the worker is in the models topic: its lane, its name, and how often it tells its state."""

    lane: str
    worker: str
    interval_s: float


@dataclass(frozen=True, slots=True)
class Target:
    """A version on its way to ``role``, or refused."""

    version: Version
    role: Role
    state: AvailabilityState
    detail: str | None
    since: datetime


@dataclass(slots=True)
class Report:
    """What there is to tell.

    targets: versions that were activated and do not serve, yet or at all; upgrades: how far the faster engine of a
    model is; settled: see the event.
    """

    place: Place
    roster: Roster | None = None
    activation: ModelActivated | None = None
    settled: bool = False
    targets: dict[Role, Target] = field(default_factory=dict)
    upgrades: dict[Served, Target] = field(default_factory=dict)

    def event(self) -> WorkerAvailability:
        """The report as it is now."""
        models = list(self._models())
        return WorkerAvailability(
            lane=self.place.lane,
            worker=self.place.worker,
            activation=self.activation.id if self.activation is not None else None,
            settled=self.settled,
            state=overall(models),
            models=models,
            reported_at=utc_now(),
            valid_s=VALID_INTERVALS * self.place.interval_s,
        )

    def _models(self) -> Iterator[ModelAvailability]:
        roster = self.roster
        if roster is not None:
            yield self._served(roster.stable, self._role(roster.stable), serving=True)
            if roster.canary is not None and roster.canary is not roster.stable:
                yield self._served(roster.canary, "canary", serving=True)
            for served in roster.draining:
                yield self._served(served, "former", serving=False)
        for target in self.targets.values():
            yield ModelAvailability(
                model=target.version.ref or OWN,
                role=target.role,
                state=target.state,
                serving=False,
                detail=target.detail,
                since=target.since,
            )

    def _role(self, stable: Served) -> Literal["stable", "former"]:
        if self.activation is None:
            return "stable"
        return "stable" if stable.is_version(self.activation.stable, self.activation.sha256) else "former"

    def _served(
        self, served: Served, role: Literal["stable", "canary", "former"], *, serving: bool
    ) -> ModelAvailability:
        upgrade, engine = self.upgrades.get(served), served.model.engine
        return ModelAvailability(
            model=served.ref,
            role=role,
            state=upgrade.state if upgrade is not None else "enabled",
            serving=serving,
            engine=engine.name,
            engine_reason=engine.reason,
            detail=upgrade.detail if upgrade is not None else served.complaint,
            since=upgrade.since if upgrade is not None else served.loaded_at,
            loaded_at=served.loaded_at,
        )
