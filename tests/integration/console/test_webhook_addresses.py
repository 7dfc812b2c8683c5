"""Addresses of web-hooks that are never called are refused when they are given."""

from __future__ import annotations

from pathlib import Path

import pytest

from infra.database.pool import Database
from sinks.webhooks.settings import WebhookSettings
from tests.servers.console import running_console

pytestmark = pytest.mark.integration

HOOKS = "/api/v1/webhooks"


@pytest.mark.parametrize(
    ("url", "text"),
    [
        ("http://127.0.0.1:9000/hook", "127.0.0.1 is not allowed: it is this machine"),
        ("http://localhost:9000/hook", "localhost has the address 127.0.0.1, which is not allowed"),
        ("https://[::1]/hook", "::1 is not allowed: it is this machine"),
        ("https://10.0.7.4/hook", "10.0.7.4 is not allowed"),
        ("http://93.184.216.34/hook", "is called by https:// only"),
    ],
)
async def test_an_address_that_is_not_allowed_names_the_setting(
    tmp_path: Path, database: Database, url: str, text: str
) -> None:
    """It was kept, and no call of it ever came."""
    async with running_console(tmp_path, database) as console:
        response = await console.post(HOOKS, json={"url": url})
        assert (response.status, response.code, response.json["field"]) == (400, "INVALID_CONFIG", "url")
        assert text in response.json["message"]
        assert "webhooks.networks (STANDGALE_WEBHOOKS__NETWORKS)" in response.json["message"]


async def test_addresses_that_are_allowed_and_names_are_kept(tmp_path: Path, database: Database) -> None:
    inside = WebhookSettings(networks=("127.0.0.0/8",))
    async with running_console(tmp_path, database, webhooks=inside) as console:
        for url in ("http://127.0.0.1:9000/hook", "http://localhost:9000/hook", "https://93.184.216.34/hook"):
            assert (await console.post(HOOKS, json={"url": url})).status == 201, url
        # Where a name leads is known when it is called.
        assert (await console.post(HOOKS, json={"url": "http://receiver.internal/hook"})).status == 201
