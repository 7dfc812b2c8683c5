"""The exit status of a service."""

from __future__ import annotations

import asyncio

import pytest

from infra.errors import SettingsError
from infra.process.components import EXIT_FAILED
from infra.process.service import run_service


def test_run_service_logs_standgale_error_and_returns_exit_failed(caplog: pytest.LogCaptureFixture) -> None:
    async def main() -> int:
        raise SettingsError("gateway.port: taken")

    assert run_service(main) == EXIT_FAILED
    assert "gateway.port: taken" in caplog.text


def test_run_service_returns_the_status_of_main_under_uvloop() -> None:
    async def main() -> int:
        return 7 if "uvloop" in type(asyncio.get_running_loop()).__module__ else 0

    assert run_service(main) == 7
