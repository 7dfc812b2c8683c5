"""Runs a campaign on replays: ``python -m tests.campaign.replay --frames 20000 --kills 5``; see docs/replay.md."""

from __future__ import annotations

import argparse
import asyncio
import json
import random
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

from tests.harnesses.replay_live import measure_live_during_replay
from tests.harnesses.replay_site import ReplaySite, write_pictures


def main() -> int:
    """Run one campaign; return 0 when every frame is in the topic once."""
    parser = argparse.ArgumentParser(prog="python -m tests.campaign.replay", description=__doc__)
    parser.add_argument("--frames", type=int, default=20_000)
    parser.add_argument("--kills", type=int, default=5, help="SIGKILL of the replay")
    parser.add_argument("--seed", type=int, default=7)
    parser.add_argument("--live", action="store_true", help="instead: p95 of live frames without and during a replay")
    parser.add_argument("--seconds", type=float, default=60.0, help="with --live: how long each is measured")
    parser.add_argument("--rate", type=float, default=None, help="with --live: the replay's most frames per second")
    given = parser.parse_args()
    folder = Path(tempfile.mkdtemp(prefix="standgale-replay-"))
    if given.live:
        found = measure_live_during_replay(folder, given.seconds, given.rate)
        print(json.dumps(found), flush=True)
        return 0 if found["ratio"] <= 1.3 else 1
    print(f"seed {given.seed}; all files in {folder}", flush=True)
    return asyncio.run(_kill(folder, given.frames, given.kills, random.Random(given.seed)))


async def _kill(folder: Path, frames: int, kills: int, rng: random.Random) -> int:
    site = ReplaySite(folder, {"STANDGALE_REPLAY__MAX_BACKLOG": "0"})
    await site.prepare()
    pictures = folder / "pictures"
    write_pictures(pictures, frames)
    arguments = (str(pictures), "--device", "drone-7")
    began, killed = time.monotonic(), 0
    while killed < kills:
        process = site.start(*arguments)
        # A start takes a second or two; then some hundred frames per second.
        if not site.wait_and_kill(process, rng.uniform(2.5, 6.0)):
            break
        killed += 1
        print(f"killed at {len(await site.frames())} frames", flush=True)
    result = site.run(*arguments, "--json")
    seconds = time.monotonic() - began
    counts = Counter(event.frame_id for event in await site.frames())
    stored = _files(site.data / "frames")
    done = site.run(*arguments, "--json")
    again = site.run(*arguments, "--again", "--json")
    after = await site.frames()
    account = {
        "kills": killed,
        "seconds": round(seconds, 1),
        "frames": frames,
        "once": sum(count == 1 for count in counts.values()),
        "more_than_once": sum(count > 1 for count in counts.values()),
        "result": json.loads(result.stdout),
        "second": json.loads(done.stdout),
        "again": json.loads(again.stdout),
        "topic_after": len(after),
        "in_order": [e.captured_at for e in after] == sorted(e.captured_at for e in after),
        "files_unchanged": stored == _files(site.data / "frames"),
    }
    print(json.dumps(account), flush=True)
    whole = account["once"] == frames == len(after) and account["files_unchanged"] and account["in_order"]
    return 0 if whole and killed == kills else 1


def _files(folder: Path) -> dict[str, int]:
    return {path.name: path.stat().st_mtime_ns for path in folder.rglob("*.jpg")}


if __name__ == "__main__":
    sys.exit(main())
