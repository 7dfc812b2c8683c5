"""Defines the parts that a console needs; the process builds them at start and closes them at the end."""

from __future__ import annotations

from dataclasses import dataclass, field

from console.settings import ConsoleSettings
from infra.database.pool import Database
from infra.process.health import Health
from infra.storage.frames.port import FrameStore
from ingest.acceptance.parts import TokenVerifier
from ingest.limits.settings import LimitsSettings


@dataclass(frozen=True, slots=True)
class ConsoleParts:
    """Holds everything that the endpoints of a console use."""

    settings: ConsoleSettings
    keys: TokenVerifier
    """Verifies API keys; the holder of one is the client"""
    database: Database
    store: FrameStore
    limits: LimitsSettings = field(default_factory=LimitsSettings)
    """The rates of addresses, clients and wrong keys"""
    health: Health = field(default_factory=Health)
    """The health that `/api/v1/health` shows"""
