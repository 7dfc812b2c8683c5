"""Reads the rules that the operator has installed for jobs, and checks those that come with a job."""

from __future__ import annotations

import asyncio
from pathlib import Path

from detectors.rules.rules_file import LARGEST_BYTES, RulesError, parse_rules
from infra.errors import TransientError
from infra.regular_files import read_regular

_SUFFIX = ".pl"


class InstalledRules:
    """Implements :class:`console.ports.RulesLibrary` with a folder: the rules ``herd`` are its file ``herd.pl``."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    async def find(self, name: str) -> str | None:
        """See :class:`console.ports.RulesLibrary`; ``name`` is a plain name. Raises TransientError when unreadable."""
        try:
            content = await asyncio.to_thread(read_regular, self._folder / f"{name}{_SUFFIX}", LARGEST_BYTES)
            return content.decode("utf-8-sig")
        except FileNotFoundError:
            return None
        except (OSError, UnicodeDecodeError) as error:
            raise TransientError(f"the rules {name} cannot be read from {self._folder}: {error}") from error

    async def fault(self, text: str) -> str | None:
        """See :class:`console.ports.RulesLibrary`."""
        try:
            await asyncio.to_thread(parse_rules, text.encode(), "job")
        except RulesError as error:
            return str(error)
        return None
