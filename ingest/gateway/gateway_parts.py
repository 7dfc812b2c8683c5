"""Defines the parts that a gateway needs; the process builds them at start and closes them at the end."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Protocol

from infra.broker.port import Publisher
from infra.process.health import Health
from infra.storage.frames.port import FrameStore
from ingest.gateway.readiness.clock import GatewayClock
from ingest.gateway.readiness.outcomes import GatewayReadiness
from ingest.settings import GatewaySettings


class VerifiedDevice(Protocol):
    """Names the device that a token belongs to."""

    @property
    def device_id(self) -> str:
        """The device the token belongs to."""
        ...


class TokenVerifier(Protocol):
    """Verifies device tokens; it is called once per request, so it must not wait for a database."""

    def verify(self, token: str) -> VerifiedDevice | None:
        """Return the device that ``token`` belongs to, or None for an unknown or revoked one.

        Raises a TransientError while the tokens were not read yet (the database is unavailable).
        """
        ...


@dataclass(frozen=True, slots=True)
class GatewayParts:
    """Holds everything that a gateway uses."""

    settings: GatewaySettings
    verifier: TokenVerifier
    store: FrameStore
    publisher: Publisher
    health: Health = field(default_factory=Health)
    """The health that `/api/v1/health` shows"""
    readiness: GatewayReadiness = field(default_factory=GatewayReadiness.without_probes)
    """Gets the outcomes of puts and publishes"""
    frame_partitions: int = 1
    """How many partitions frames.live has; one of them may fail while the others work"""
    clock: GatewayClock = field(default_factory=GatewayClock.without_broker)
    """Gives the time when a frame was received"""
    stream_url: str | None = None
    """The public address of `/api/v1/detections/stream`; when given, every response has a link to it"""
    documents: Mapping[str, str] = field(default_factory=dict)
    """The contracts of the topics by file name, for download (:func:`schemas.documents.documents`)"""
