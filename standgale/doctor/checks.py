"""Lists all checks of the doctor."""

from __future__ import annotations

from collections.abc import Sequence

from schemas.topics import load_topics
from standgale.doctor.access import with_short_timeouts
from standgale.doctor.annotations import AnnotationsCheck
from standgale.doctor.archive import ArchiveCheck
from standgale.doctor.clocks import BrokerClockCheck, DatabaseClockCheck, FileClockCheck
from standgale.doctor.database import DatabaseCheck
from standgale.doctor.dead_letters import DeadLettersCheck
from standgale.doctor.disks import DisksCheck
from standgale.doctor.groups import GroupsCheck
from standgale.doctor.model import ModelCheck
from standgale.doctor.mqtt import MqttCheck
from standgale.doctor.port import Check
from standgale.doctor.retention import RetentionCheck
from standgale.doctor.rules import RulesCheck
from standgale.doctor.services import ServiceCheck, own_address
from standgale.doctor.settings import SettingsCheck
from standgale.doctor.store import StoreCheck
from standgale.doctor.topics import TopicsCheck
from standgale.settings import Settings


def all_checks(settings: Settings, *, timeout_s: float, health: Sequence[str] = ()) -> list[Check]:
    """Make every check for ``settings`` and for the further health ports ``health``. Raises TopicsError."""
    topics = load_topics(settings.topics_file)
    soon = with_short_timeouts(settings, timeout_s)
    return [
        SettingsCheck(settings),
        TopicsCheck(soon, topics),
        GroupsCheck(soon, topics),
        DeadLettersCheck(soon, topics),
        BrokerClockCheck(soon, topics),
        DatabaseClockCheck(soon),
        FileClockCheck(soon),
        DatabaseCheck(soon),
        StoreCheck(soon),
        ArchiveCheck(soon),
        RetentionCheck(soon),
        ModelCheck(soon.detector),
        RulesCheck(soon.detector),
        AnnotationsCheck(soon.media, timeout_s / 2),
        MqttCheck(soon.mqtt),
        DisksCheck(soon),
        *(ServiceCheck(address) for address in (*own_address(settings.telemetry), *health)),
    ]
