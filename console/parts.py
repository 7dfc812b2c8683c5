"""Defines the parts that a console needs; the process builds them at start and closes them at the end."""

from __future__ import annotations

from dataclasses import dataclass, field

from console.inference_settings import InferenceJobsSettings
from console.objects import JobObjects
from console.ports import AnyModel, Detectors, ModelNames, NoRules, RulesLibrary, UnknownDetectors
from console.settings import ConsoleSettings
from infra.auth.port import Verifier
from infra.database.pool import Database
from infra.encryption.box import SecretBox
from infra.http_api.limits.slots import AGAIN_FASTER, UploadSlots
from infra.process.health import Health
from infra.storage.frames.port import FrameStore
from ingest.limits.settings import LimitsSettings
from sinks.webhooks.settings import WebhookSettings

# Where all places are used, the slowest upload that has lasted for so long makes room for a client without one.
_TURN_S = 30.0
_SLOT_SETTINGS = "console.max_uploads and console.max_in_flight_bytes"
_BODY_SETTINGS = "console.max_bodies and console.max_body_bytes"


@dataclass(frozen=True, slots=True)
class ConsoleParts:
    """Holds everything that the endpoints of a console use."""

    settings: ConsoleSettings
    keys: Verifier
    """Verifies API keys; the holder of one is the client"""
    database: Database
    store: FrameStore
    box: SecretBox
    """Encrypts what clients entrust"""
    limits: LimitsSettings = field(default_factory=LimitsSettings)
    """The rates of addresses, clients and wrong keys"""
    health: Health = field(default_factory=Health)
    """The health that `/api/v1/health` shows"""
    rules: RulesLibrary = field(default_factory=NoRules)
    """The rules that jobs may name"""
    models: ModelNames = field(default_factory=AnyModel)
    """The model versions that jobs may name"""
    detectors: Detectors = field(default_factory=UnknownDetectors)
    """The detectors that work now"""
    objects: JobObjects = field(default_factory=lambda: JobObjects(InferenceJobsSettings()))
    """The S3 server of inference jobs, and their settings; who makes it closes it"""
    webhooks: WebhookSettings = field(default_factory=WebhookSettings)
    """Which addresses web-hooks may have"""
    slots: UploadSlots = field(init=False)
    """The uploads that are received at the same time, of all endpoints"""
    bodies: UploadSlots = field(init=False)
    """The requests with JSON bodies at the same time, which are few bytes each: uploads keep none of them waiting"""

    def __post_init__(self) -> None:
        most = self.settings.max_uploads, self.settings.max_in_flight_bytes
        object.__setattr__(self, "slots", UploadSlots(*most, _SLOT_SETTINGS, _TURN_S, AGAIN_FASTER))
        bodies, settings = self.settings.max_bodies, self.settings
        most_bytes = max(bodies * settings.max_body_bytes, settings.max_in_flight_bytes)
        object.__setattr__(self, "bodies", UploadSlots(bodies, most_bytes, _BODY_SETTINGS))
