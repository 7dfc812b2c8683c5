"""Says how to reach one repository of a LakeFS server."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Self

from pydantic import SecretStr

from infra.errors import SettingsError
from infra.sections import Section

API = "/api/v1"


def _variable_of_access(field: str) -> str:
    return f"the setting {field}"


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
    def of(
        cls,
        section: Section,
        *,
        endpoint_url: str | None,
        access_key: SecretStr | None,
        secret_key: SecretStr | None,
        repository: str,
        timeout_s: float,
    ) -> Self:
        """Return the access that settings describe. Raises SettingsError when address or key is missing."""
        if endpoint_url is None or access_key is None or secret_key is None:
            names = section.named("endpoint_url", "access_key", "secret_key")
            raise SettingsError(f"{names}: all three are needed for LakeFS, which has no anonymous access")
        base = endpoint_url.rstrip("/").removesuffix(API).rstrip("/")
        return cls(base, access_key, secret_key, repository, timeout_s, section.variable)
