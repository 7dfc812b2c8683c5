"""Defines what to read: the source of a video, which of its frames, and where its times come from."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime, timezone
from pathlib import Path
from typing import Literal
from urllib.parse import SplitResult, urlsplit

from infra.errors import SettingsError

SelectionMode = Literal["every", "nth", "rate", "key", "scene"]
Transport = Literal["tcp", "udp"]

SCHEMES = ("http", "https", "rtsp", "rtsps")
_DEFAULT_PORTS = {"http": 80, "https": 443, "rtsp": 554, "rtsps": 322}
_MAX_ADDRESS = 2_048


@dataclass(frozen=True, slots=True)
class Selection:
    """Says which frames of a video are wanted."""

    mode: SelectionMode = "every"
    every: int = 1
    """nth: the first frame, and then each one after so many"""
    per_second: float = 1.0
    """rate: the most frames in a second of the video"""
    change: float = 0.08
    """scene: the least difference from the last frame that was taken, 0 (none) to 1 (black to white)"""

    def __post_init__(self) -> None:
        """Raise SettingsError for numbers that select nothing."""
        if self.every < 1:
            raise SettingsError(f"every is {self.every}; it takes 1 or more")
        if not 0 < self.per_second <= 1_000:
            raise SettingsError(f"per_second is {self.per_second:g}; it takes more than 0 and at most 1000")
        if not 0 < self.change <= 1:
            raise SettingsError(f"change is {self.change:g}; it takes more than 0 and at most 1")


@dataclass(frozen=True, slots=True)
class VideoSource:
    """Names a video or a camera, and says how to read it."""

    name: str
    """What events and logs call it; the address may hold a password"""
    address: str
    """A path, or an address that begins with http:, https:, rtsp: or rtsps:"""
    selection: Selection = Selection()
    transport: Transport = "tcp"
    """How RTSP sends the pictures"""
    start: datetime | None = None
    """When the first frame was taken, where the video does not say it or says it wrongly"""
    zone: timezone | None = None
    """The time zone of local times in SRT files"""
    telemetry: Path | None = None
    """An SRT file; without it, one beside the video with the same name"""

    def __post_init__(self) -> None:
        """Raise SettingsError for a start without time zone."""
        if self.start is not None and self.start.tzinfo is None:
            raise SettingsError(f"start is {self.start.isoformat()}, which has no time zone; append Z or +02:00")


@dataclass(frozen=True, slots=True)
class NetworkAddress:
    """Is an address that was checked for its form; its host was not looked up yet."""

    scheme: str
    host: str
    port: int
    target: str
    """Path and query, as they are sent"""
    user: str | None = field(default=None, repr=False)
    password: str | None = field(default=None, repr=False)

    def __str__(self) -> str:
        """Return the address without user, password and query, which may be a secret."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{self.scheme}://{host}:{self.port}{self.target.partition('?')[0]}"


def parse_address(address: str) -> NetworkAddress | Path:
    """Return ``address`` as an address on the network or as a path. Raises SettingsError for another scheme."""
    if len(address) > _MAX_ADDRESS or not address or any(ord(char) < 32 for char in address):
        raise SettingsError(f"a video's address has 1 to {_MAX_ADDRESS} characters, and none that controls a terminal")
    scheme, colon, rest = address.partition("://")
    # Without slashes it is a file, even one called "concat:a.mp4".
    if not colon:
        return Path(address)
    if scheme.lower() not in SCHEMES:
        raise SettingsError(
            f"{scheme[:20]!a} is no scheme for a video; give a path, or an address that begins with "
            f"{', '.join(f'{each}://' for each in SCHEMES)}"
        )
    return _network_address(scheme.lower(), f"{scheme}://{rest}")


def _network_address(scheme: str, text: str) -> NetworkAddress:
    try:
        parts = urlsplit(text)
        port = parts.port or _DEFAULT_PORTS[scheme]
    except ValueError as error:
        raise SettingsError(f"a video's address cannot be read ({error}); it is {scheme}://host:port/path") from error
    if not parts.hostname:
        raise SettingsError(f"a video's address names no host; it is {scheme}://host:port/path")
    if any(char.isspace() for char in text):
        raise SettingsError("a video's address contains a space; write it as %20")
    return NetworkAddress(
        scheme=scheme,
        host=parts.hostname,
        port=port,
        target=_target(parts),
        user=parts.username,
        password=parts.password,
    )


def _target(parts: SplitResult) -> str:
    return (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
