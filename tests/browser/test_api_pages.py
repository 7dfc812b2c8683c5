"""Checks in a real browser that /docs and /redoc show every operation without internet (C-S1-028, C-S2-072)."""

from __future__ import annotations

import asyncio
import re
import subprocess
from html import unescape
from pathlib import Path

import pytest

from tests.servers.gateway import Gateway, running

pytestmark = pytest.mark.integration

FLAGS = (
    *("--headless", "--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-background-networking"),
    *("--disable-component-update", "--disable-sync", "--disable-dev-shm-usage", "--enable-logging=stderr"),
    # Nothing but the gateway has an address.
    "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1",
    *("--virtual-time-budget=20000", "--dump-dom"),
)


def _shown(chromium: str, profile: Path, address: str) -> tuple[str, str]:
    """Return the page after its programs have run, and what the browser has logged."""
    command = [chromium, *FLAGS, f"--user-data-dir={profile}", address]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=True)
    return unescape(re.sub(r"<style.*?</style>|\u200b|<wbr>", "", done.stdout, flags=re.DOTALL)), done.stderr


async def _operations(gateway: Gateway) -> list[tuple[str, str, str]]:
    page = await gateway.send(b"", method="GET", path="/openapi.json", token=None, params={})
    paths = page.json["paths"]
    return [(method, path, one["summary"]) for path, methods in paths.items() for method, one in methods.items()]


@pytest.mark.parametrize("path", ["/docs", "/redoc"])
async def test_page_shows_every_operation_without_internet(tmp_path: Path, chromium: str, path: str) -> None:
    async with running(tmp_path) as gateway:
        operations = await _operations(gateway)
        page, log = await asyncio.to_thread(_shown, chromium, tmp_path / "profile", gateway.url + path)
    assert len(operations) >= 8
    missing = [(method, place, summary) for method, place, summary in operations if summary not in page]
    assert missing == []
    if path == "/docs":
        assert [place for _, place, _ in operations if f'data-path="{place}"' not in page] == []
    # Redoc would load its maker's logo; the policy of the page forbids it.
    complaints = [line for line in log.splitlines() if "CONSOLE" in line and "logo-mini.svg" not in line]
    assert complaints == []


async def test_pages_forbid_scripts_of_others_and_name_no_other_host(tmp_path: Path) -> None:
    async with running(tmp_path) as gateway:
        for path in ("/docs", "/redoc"):
            page = await gateway.send(b"", method="GET", path=path, token=None, params={})
            policy = page.headers["Content-Security-Policy"]
            assert "script-src 'self';" in policy
            assert "default-src 'none'" in policy
            assert b"//" not in page.body
            for asset in re.findall(r'(?:src|href)="(docs/assets/[^"]+)"', page.body.decode()):
                found = await gateway.send(b"", method="GET", path=f"/{asset}", token=None, params={})
                assert (found.status, found.headers["X-Content-Type-Options"]) == (200, "nosniff")
        for name in ("../app.py", "%2e%2e/core.py", "core.py", "LICENSE"):
            assert (await gateway.send(b"", method="GET", path=f"/docs/assets/{name}")).status == 404
