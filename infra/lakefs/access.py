"""Says how to reach one repository of a LakeFS server."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol, Self

from pydantic import SecretStr

from infra.errors import SettingsError

API = "/api/v1"


def _variable_of_access(field: str) -> str:
    return f"the setting {field}"


class LakeFsSection(Protocol):
    """Is the part of a settings section that names a server and a key for it."""

    @property
    def endpoint_url(self) -> str | None:
        """The address of the server, with the path of the API or without."""
        ...

    @property
    def access_key(self) -> SecretStr | None:
        """The id of the key."""
        ...

    @property
    def secret_key(self) -> SecretStr | None:
        """The secret of the key."""
        ...

    def named(self, *fields: str) -> str:
        """Return paths and variables of ``fields``, for errors."""
        ...

    def variable(self, field: str) -> str:
        """Return the variable of ``field``, for errors."""
        ...


@dataclass(frozen=True, slots=True)
class LakeFsAccess:
    """Names a server, a key for it, and a repository."""

    endpoint_url: str
    """Without the path of the API"""
    access_key: SecretStr
    secret_key: SecretStr
    repository: str
    timeout_s: float = 10.0
    """The time limit for connecting, and for each wait for bytes"""
    variable: Callable[[str], str] = _variable_of_access
    """Returns what a person has to change for a field, for errors"""

    @classmethod
    def of(cls, server: LakeFsSection, repository: str, timeout_s: float) -> Self:
        """Return the access to ``repository`` of a server. Raises SettingsError when its address or key is missing."""
        if server.endpoint_url is None or server.access_key is None or server.secret_key is None:
            names = server.named("endpoint_url", "access_key", "secret_key")
            raise SettingsError(f"{names}: all three are needed for LakeFS, which has no anonymous access")
        base = server.endpoint_url.rstrip("/").removesuffix(API).rstrip("/")
        return cls(base, server.access_key, server.secret_key, repository, timeout_s, server.variable)
