"""Defines what the acceptance of images needs; the process builds it at start and closes it at the end."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Protocol

from infra.auth.port import Verifier
from infra.broker.port import Publisher
from infra.storage.frames.port import FrameStore
from infra.storage.originals.port import OriginalUploads
from ingest.readiness.clock import GatewayClock
from ingest.readiness.outcomes import GatewayReadiness
from ingest.settings import GatewaySettings


class LagLimit(Protocol):
    """Refuses frames while the detectors are behind; it is asked once per request, so it must not wait."""

    def require(self, topic: str, partition: int) -> None:
        """Raise an ApiError when frames of this topic and partition are refused now."""


@dataclass(frozen=True, slots=True)
class AcceptanceParts:
    """Holds everything that the acceptance of an image uses."""

    settings: GatewaySettings
    verifier: Verifier
    store: FrameStore
    publisher: Publisher
    originals: OriginalUploads | None = None
    """Keeps uploads of large images; without it there are none"""
    readiness: GatewayReadiness = field(default_factory=GatewayReadiness.without_probes)
    """Gets the outcomes of puts and publishes"""
    frame_partitions: int = 1
    """How many partitions the frame topics have; one of them may fail while the others work"""
    clock: GatewayClock = field(default_factory=GatewayClock.without_broker)
    """Gives the time when a frame was received"""
    lag: LagLimit | None = None
    """Refuses frames while the detectors are behind; without it none is refused"""
