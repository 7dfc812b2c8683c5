"""Defines the parts that a gateway needs; the process builds them at start and closes them at the end."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from infra.http_api.versions import Deprecation
from infra.process.health import Health
from ingest.acceptance.parts import AcceptanceParts
from ingest.answers.answers import Answers
from ingest.flights.flight import Flights
from ingest.limits.settings import LimitsSettings
from ingest.stream.streams import Streams

DEPRECATED: tuple[Deprecation, ...] = ()
"""Everything of version 1 that is to be used no longer: nothing."""


@dataclass(frozen=True, slots=True)
class GatewayParts(AcceptanceParts):
    """Holds everything that a gateway uses."""

    answers: Answers | None = None
    """Waits for the detections of frames; without it there is neither detect nor detect/batch"""
    flights: Flights | None = None
    """Keeps the flights of devices; without it there are no endpoints of flights"""
    limits: LimitsSettings = field(default_factory=LimitsSettings)
    """The rates of addresses, devices and wrong tokens"""
    streams: Streams | None = None
    """The WebSockets that send frames; without it there is no /api/v1/stream"""
    deprecated: Sequence[Deprecation] = DEPRECATED
    """The routes and fields that are to be used no longer"""
    health: Health = field(default_factory=Health)
    """The health that `/api/v1/health` shows"""
    stream_url: str | None = None
    """The public address of `/api/v1/detections/stream`; when given, every response has a link to it"""
    documents: Mapping[str, str] = field(default_factory=dict)
    """The contracts of the topics by file name, for download (:func:`schemas.documents.documents`)"""
