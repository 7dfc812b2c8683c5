"""Which checks there are."""

from __future__ import annotations

from collections.abc import Sequence

from infra.settings import Settings
from schemas.topics import load_topics
from windhover.doctor.access import hurried
from windhover.doctor.clocks import BrokerClockCheck, DatabaseClockCheck, FileClockCheck
from windhover.doctor.database import DatabaseCheck
from windhover.doctor.dead_letters import DeadLettersCheck
from windhover.doctor.disks import DisksCheck
from windhover.doctor.groups import GroupsCheck
from windhover.doctor.model import ModelCheck
from windhover.doctor.port import Check
from windhover.doctor.services import ServiceCheck, own_address
from windhover.doctor.settings import SettingsCheck
from windhover.doctor.store import StoreCheck
from windhover.doctor.topics import TopicsCheck


def all_checks(settings: Settings, *, timeout_s: float, health: Sequence[str] = ()) -> list[Check]:
    """Every check, for ``settings``; ``health``: further health ports to ask. Raises TopicsError."""
    topics = load_topics(settings.topics_file)
    soon = hurried(settings, timeout_s)
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
        ModelCheck(soon),
        DisksCheck(soon),
        *(ServiceCheck(address) for address in (*own_address(settings), *health)),
    ]
