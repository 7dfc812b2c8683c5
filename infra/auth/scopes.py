"""Defines which devices a client may see."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import ClassVar

from schemas.errors import StandgaleError

MAX_PATTERNS = 100
_PATTERN = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,254}\*?", re.ASCII)


class ScopeError(StandgaleError):
    """A list of devices is wrong."""

    code: ClassVar[str] = "INVALID_SCOPE"


@dataclass(frozen=True, slots=True)
class DeviceScope:
    """Holds devices by their ids, and by what their ids begin with."""

    ids: frozenset[str]
    prefixes: tuple[str, ...] = ()
    also: DeviceScope | None = None
    """A device must be in this scope, too"""

    @classmethod
    def of(cls, patterns: Iterable[str]) -> DeviceScope:
        """Return the scope of ``patterns``: ids of devices, or beginnings with a star, such as ``drone-*``.

        Raises ScopeError.
        """
        given = sorted(set(patterns))
        if len(given) > MAX_PATTERNS:
            raise ScopeError(f"{len(given)} devices are named; at most {MAX_PATTERNS} may be (drone-* names many)")
        for pattern in given:
            if _PATTERN.fullmatch(pattern) is None:
                raise ScopeError(
                    f"{pattern[:60]!r} is neither the id of a device nor the beginning of one with a star, as drone-*"
                )
        starred = tuple(pattern[:-1] for pattern in given if pattern.endswith("*"))
        return cls(frozenset(pattern for pattern in given if not pattern.endswith("*")), starred)

    @property
    def patterns(self) -> Sequence[str]:
        """What :meth:`of` makes this scope of, without ``also``."""
        return sorted((*self.ids, *(f"{prefix}*" for prefix in self.prefixes)))

    def holds(self, device_id: str) -> bool:
        """Whether the device is in the scope."""
        if device_id not in self.ids and not device_id.startswith(self.prefixes):
            return False
        return self.also is None or self.also.holds(device_id)

    def within(self, other: DeviceScope | None) -> DeviceScope:
        """Return the scope of the devices that are in both."""
        return self if other is None else DeviceScope(self.ids, self.prefixes, other)
