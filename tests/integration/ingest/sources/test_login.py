"""Pulls a camera that asks for a password, which is in a file alone; the file may be corrected while a process runs."""

from __future__ import annotations

from pathlib import Path

import pytest

from ingest.sources.options import parse_selection, stored_options
from tests.harnesses.source_site import source_site
from tests.servers.rtsp import CAMERA, RtspServer, require_gstreamer

pytestmark = pytest.mark.integration

PASSWORD = "pw:@/%41x"
WRONG = "wrong-secret"


async def test_a_corrected_login_is_used_and_none_is_shown(migrated_dsn: str, tmp_path: Path) -> None:
    require_gstreamer()
    login = tmp_path / "source-logins" / "gate"
    login.parent.mkdir()
    login.write_text(f"admin:{WRONG}\n")
    camera = CAMERA.replace("height=240", "height=256")
    with RtspServer(camera, login=("admin", PASSWORD)) as server:
        async with source_site(tmp_path, migrated_dsn) as site:
            options = stored_options(parse_selection("rate=5"), "tcp", None)
            await site.table.add("gate", "cam-gate", server.url, has_login=True, options=options)
            process = site.start()
            await site.wait_for(lambda rows: "user or password is wrong" in (rows[0].reason or ""))
            login.write_text(f"admin:{PASSWORD}\n")
            await site.wait_for(lambda rows: rows[0].state == "pulling" and rows[0].counts["accepted"] > 2)
            shown = f"{await site.table.list()}{process.log.read_text()}"
    assert PASSWORD not in shown
    assert WRONG not in shown
