"""The exit status of a service."""

from __future__ import annotations

import asyncio

import pytest

from infra.errors import SettingsError
from infra.process.components import EXIT_FAILED
from infra.process.service import run_service


def test_an_error_standgale_can_name_is_a_line_and_a_status(caplog: pytest.LogCaptureFixture) -> None:
    async def main() -> int:
        raise SettingsError("gateway.port: taken")

    assert run_service(main) == EXIT_FAILED
    assert "gateway.port: taken" in caplog.text


def test_the_exit_status_is_mains_own_under_uvloop() -> None:
    async def main() -> int:
        return 7 if "uvloop" in type(asyncio.get_running_loop()).__module__ else 0

    assert run_service(main) == 7
