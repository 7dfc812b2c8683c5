"""Runs campaigns of jobs: ``python -m tests.campaign.jobs load`` or ``kills``; see docs/jobs.md."""

from __future__ import annotations

import argparse
import asyncio
import json
import logging
import random
import sys
import tempfile
from pathlib import Path

import uvloop

from tests.campaign.jobs.kills import Kills, run_kills
from tests.campaign.jobs.load import Load, run_load
from tests.campaign.jobs.site import open_fleet


def main() -> int:
    """Run one campaign; return 0 when nothing is wrong."""
    parser = argparse.ArgumentParser(prog="python -m tests.campaign.jobs", description=__doc__)
    parser.add_argument("part", choices=("load", "kills"))
    parser.add_argument("--jobs", type=int, default=1_000, help="load: how many jobs")
    parser.add_argument("--files", type=int, default=10, help="load: pictures of each job")
    parser.add_argument("--clients", type=int, default=50, help="load: clients that make jobs at the same time")
    parser.add_argument("--askers", type=int, default=1_000, help="load: clients that ask for status, each in 2 to 5 s")
    parser.add_argument("--watchers", type=int, default=200, help="load: streams of progress")
    parser.add_argument("--background", type=int, default=1, help="load: detector.background_frames")
    parser.add_argument("--nice", type=int, default=10, help="load: niceness of console and sink")
    parser.add_argument("--times", type=int, default=2, help="kills: how often each process and server is killed")
    parser.add_argument("--broker", choices=("embedded", "kafka"), default="embedded")
    parser.add_argument("--seed", type=int, help="kills: repeats their order (default: a new one)")
    given = parser.parse_args()
    logging.basicConfig(level=logging.WARNING, format="%(asctime)s %(message)s", datefmt="%H:%M:%S", stream=sys.stdout)
    logging.getLogger("tests.campaign").setLevel(logging.INFO)
    folder = Path(tempfile.mkdtemp(prefix="standgale-jobs-"))
    seed = random.randrange(1 << 32) if given.seed is None else given.seed
    print(f"seed {seed}; all files in {folder}", flush=True)
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        return runner.run(_run(given, folder, seed))


async def _run(given: argparse.Namespace, folder: Path, seed: int) -> int:
    if given.part == "load":
        load = Load(given.jobs, given.files, given.clients, given.askers, watchers=given.watchers)
        async with open_fleet(
            folder,
            given.broker,
            load.clients,
            niceness=given.nice,
            DETECTOR__BACKGROUND_FRAMES=str(given.background),
        ) as site:
            measured = await run_load(site, load)
        figures, problems = measured.figures(), measured.problems
    else:
        settings = {"CONSOLE__JOB_WINDOW": "2", "CONSOLE__HEARTBEAT_S": "0.5"}
        async with open_fleet(folder, given.broker, 1, **settings) as site:
            account = await run_kills(site, Kills(times=given.times, seed=seed))
        figures, problems = account.figures(), account.problems
    for problem in problems[:20]:
        print(f"  {problem}")
    print(json.dumps(figures), flush=True)
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())
