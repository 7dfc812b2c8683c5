"""Defines the base class of all settings sections, their common field types, and how a section names its settings."""

from __future__ import annotations

from dataclasses import dataclass
from ipaddress import ip_network
from pathlib import Path
from typing import Annotated, ClassVar
from urllib.parse import urlsplit

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, SecretStr, field_validator

PREFIX = "STANDGALE_"
"""All variables of the environment that are settings begin with it."""
NESTING = "__"
"""Separates section and field in a variable: STANDGALE_GATEWAY__PORT."""

Port = Annotated[int, Field(ge=0, le=65_535)]
_MOST_COUNT = 1_000_000_000
_MOST_SIZE = 10**18
_WEEK_S = 604_800
_DAY_S = 86_400
# Without an upper limit a wrong number would be found where it is used: as an overflow of a time, of a thread pool, or
# of a field of a protocol.
PositiveInt = Annotated[int, Field(gt=0, le=_MOST_COUNT)]
"""How many there may be of something"""
Count = Annotated[int, Field(ge=0, le=_MOST_COUNT)]
Threads = Annotated[int, Field(gt=0, le=1_024)]
PositiveSize = Annotated[int, Field(gt=0, le=_MOST_SIZE)]
"""Bytes or pixels"""
Size = Annotated[int, Field(ge=0, le=_MOST_SIZE)]
PositiveSeconds = Annotated[float, Field(gt=0, le=_WEEK_S)]
Seconds = Annotated[float, Field(ge=0, le=_WEEK_S)]
ShortInterval = Annotated[float, Field(ge=0.001, le=_DAY_S)]
"""Seconds between two rounds of quick work; with shorter ones the rounds would keep a core busy."""
Interval = Annotated[float, Field(ge=0.1, le=_DAY_S)]
"""Seconds between two rounds of work for others as well: a database, a broker, all clients."""


@dataclass(frozen=True, slots=True)
class Takes:
    """Says what a setting takes, where its type does not."""

    text: str


@dataclass(frozen=True, slots=True)
class AlsoNamed:
    """Names another variable that gives a setting, as other systems call it; the setting's own variable wins."""

    variable: str
    only_with: tuple[str, str] | None = None
    """The field of the same section, and its value, without which the other variable means something else"""


def _http_address(url: str) -> str:
    # The value stays out of the texts: it may contain a password.
    if not _is_server(url):
        raise ValueError("it is no address of a server, or has a user or a password")
    if "?" in url or "#" in url:
        raise ValueError("it has a ? or a #")
    return url.rstrip("/")


def _is_server(url: str) -> bool:
    try:
        parts = urlsplit(url)
        # A wrong port is an error only where it is asked for.
        port = parts.port
    except ValueError:
        return False
    # Python passes over white space and control characters in it; what sends a request does not.
    plain = url.isprintable() and " " not in url and "@" not in parts.netloc
    return plain and parts.scheme in ("http", "https") and bool(parts.hostname) and port != 0


HttpAddress = Annotated[str, Takes("http://host:port or https://host"), AfterValidator(_http_address)]
"""The address of a server, to which paths are added: without a / at its end"""


class Section(BaseModel):
    """Holds the settings of one subject; frozen, and refuses names that it does not know."""

    # Inputs stay out of pydantic's own error texts: one of them may be a secret.
    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False, hide_input_in_errors=True)

    section: ClassVar[str] = ""
    """Its name in the settings file; given by each section that names its settings in errors."""

    @field_validator("*")
    @classmethod
    def _has_no_null(cls, value: object) -> object:
        # No path, address or password can hold one: the system takes it for the end of the text.
        texts = value if isinstance(value, tuple | list) else (value,)
        if any("\0" in text for text in map(_text_of, texts)):
            raise ValueError("it holds a null character")
        return value

    @classmethod
    def variable(cls, field: str) -> str:
        """Return the variable of ``field``: STANDGALE_FRAMES__BUCKET."""
        return f"{PREFIX}{cls.section}{NESTING}{field}".upper()

    @classmethod
    def named(cls, *fields: str) -> str:
        """Return paths and variables of ``fields`` for an error: "frames.bucket (STANDGALE_FRAMES__BUCKET)"."""
        paths = [f"{cls.section}.{field}" for field in fields]
        # One: "a"; two: "a and b"; three: "a, b and c".
        listed = " and ".join(filter(None, (", ".join(paths[:-1]), paths[-1])))
        return f"{listed} ({', '.join(map(cls.variable, fields))})"

    @classmethod
    def with_networks(cls, field: str, networks: tuple[str, ...]) -> tuple[str, ...]:
        """Return ``networks``. Raises ValueError that names the setting ``field`` for one that is no network."""
        for each in networks:
            try:
                ip_network(each, strict=False)
            except ValueError as error:
                raise ValueError(
                    f"{cls.named(field)}: received {each!r}; it takes networks such as 192.168.7.0/24 or fd00::/8"
                ) from error
        return networks

    def require_both(self, one: str, other: str) -> None:
        """Raise ValueError, naming the missing one, when only one of two settings is given."""
        missing = [name for name in (one, other) if getattr(self, name) is None]
        if len(missing) == 1:
            raise ValueError(f"{self.named(*missing)}: missing while the other one is given; give both, or neither")

    def require_at_most(self, low: str, high: str) -> None:
        """Raise ValueError, naming both settings, when the value of ``low`` is above the value of ``high``."""
        low_value, high_value = getattr(self, low), getattr(self, high)
        if low_value > high_value:
            raise ValueError(
                f"{self.named(low)}: received {low_value}; it takes at most {self.named(high)}, which is {high_value}"
            )


def _text_of(value: object) -> str:
    if isinstance(value, SecretStr):
        return value.get_secret_value()
    return str(value) if isinstance(value, str | Path) else ""
