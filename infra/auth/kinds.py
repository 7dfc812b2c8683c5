"""Defines the kinds of tokens: those of devices, which send frames, and the API keys of clients, which ask for jobs."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from schemas.errors import StandgaleError


class DeviceError(StandgaleError):
    """Raised when a command on devices and their tokens cannot be done."""

    code: ClassVar[str] = "INVALID_DEVICE"


class ClientError(StandgaleError):
    """Raised when a command on clients and their API keys cannot be done."""

    code: ClassVar[str] = "INVALID_CLIENT"


@dataclass(frozen=True, slots=True)
class TokenKind:
    """Describes one kind of token: its two tables, and the words for it in errors and logs."""

    holders: str
    """The table of those that have tokens"""
    holder_id: str
    """The column with their ids, in both tables"""
    tokens: str
    """The table of tokens, as hashes"""
    prefix: str
    """What a token begins with"""
    holder: str
    """What has tokens: "device"; also the verb of the command line that manages them is ``command``"""
    token: str
    """What it has: "token" """
    command: str
    error: type[StandgaleError]
    is_scoped: bool = False
    """Whether holders have a list of devices that they may see"""

    @property
    def tokens_name(self) -> str:
        """What logs and notes call them: "device tokens"."""
        return f"{self.holder} {self.token}s"


DEVICE_TOKENS = TokenKind(
    "devices", "device_id", "device_tokens", "stg", "device", "token", command="device", error=DeviceError
)
API_KEYS = TokenKind(
    *("api_clients", "client_id", "api_keys", "sgk", "client", "key"), command="key", error=ClientError, is_scoped=True
)
