"""What a gateway is made of; the start of the process builds these and closes them."""

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
    """Whose token it is."""

    @property
    def device_id(self) -> str:
        """The device the token belongs to."""
        ...


class TokenVerifier(Protocol):
    """Knows the tokens of all devices; asked once per request, so it must answer from memory."""

    def verify(self, token: str) -> VerifiedDevice | None:
        """The device ``token`` belongs to, or None for an unknown or revoked one.

        Raises a TransientError while the tokens are not known yet (the database is away).
        """
        ...


@dataclass(frozen=True, slots=True)
class GatewayParts:
    """Everything a gateway uses.

    ``health`` is what `/api/v1/health` tells. ``stream_url`` is the public address of `/api/v1/detections/stream`;
    when given, every answer links to it. ``documents`` are the contracts of the topics by file name, for anybody to
    download (:func:`schemas.documents.documents`). ``readiness`` is told how puts and publishes end;
    ``frame_partitions`` is how many partitions frames.live has: one of them may fail while the others do not. ``clock``
    tells when frames were received.
    """

    settings: GatewaySettings
    verifier: TokenVerifier
    store: FrameStore
    publisher: Publisher
    health: Health = field(default_factory=Health)
    readiness: GatewayReadiness = field(default_factory=GatewayReadiness.without_probes)
    frame_partitions: int = 1
    clock: GatewayClock = field(default_factory=GatewayClock.without_broker)
    stream_url: str | None = None
    documents: Mapping[str, str] = field(default_factory=dict)
