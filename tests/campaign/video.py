"""Pulls cameras while their servers are restarted: ``python -m tests.campaign.video --minutes 10 --restarts 3``."""

from __future__ import annotations

import argparse
import asyncio
import json
import sys
import tempfile
from dataclasses import asdict
from pathlib import Path

from infra.database.embedded import EmbeddedPostgres
from infra.database.migrate import migrate_up
from tests.harnesses.camera_outages import OutageAccount, Outages, pull_through_outages


def main() -> int:
    """Run one campaign; return 0 when every frame arrived in order or was counted, and memory did not grow."""
    parser = argparse.ArgumentParser(prog="python -m tests.campaign.video", description=__doc__)
    parser.add_argument("--minutes", type=float, default=10.0)
    parser.add_argument("--restarts", type=int, default=3, help="SIGKILL of both RTSP servers")
    parser.add_argument("--rate", type=int, default=15, help="frames a second of each of the two cameras")
    given = parser.parse_args()
    outages = Outages(seconds=given.minutes * 60, restarts=given.restarts, rate=given.rate)
    with tempfile.TemporaryDirectory(prefix="standgale-video-", ignore_cleanup_errors=True) as folder:
        print(f"all files in {folder}", flush=True)
        account = asyncio.run(_run(Path(folder), outages))
    for camera in account.cameras:
        print(json.dumps(asdict(camera)))
    print(json.dumps({"memory_mb": account.memory_mb[:: max(1, len(account.memory_mb) // 20)]}))
    problems = account.problems(outages.restarts)
    print(json.dumps({"growth_mb": account.growth_mb, "problems": problems}), flush=True)
    return 1 if problems else 0


async def _run(folder: Path, outages: Outages) -> OutageAccount:
    folder.chmod(0o755)  # PostgreSQL runs as another user where we are root
    postgres = EmbeddedPostgres(folder / "database")
    try:
        dsn = await postgres.start()
        await asyncio.to_thread(migrate_up, dsn)
        return await pull_through_outages(folder, dsn, outages)
    finally:
        await postgres.stop()


if __name__ == "__main__":
    sys.exit(main())
