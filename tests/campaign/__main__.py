"""Runs a campaign: ``python -m tests.campaign --events 1000 --broker embedded --seed 7``; see docs/reliability.md."""

from __future__ import annotations

import argparse
import asyncio
import logging
import random
import signal
import sys
import tempfile
from pathlib import Path

from tests.campaign.report import CampaignReport
from tests.campaign.run import CampaignOptions, run
from tests.campaign.schedule import PlanError


def main() -> int:
    """Run one campaign; return 0 when every frame is accounted for and nothing else went wrong."""
    parser = argparse.ArgumentParser(prog="python -m tests.campaign", description=__doc__)
    parser.add_argument("--events", type=int, default=100, help="number of faults")
    parser.add_argument("--broker", choices=("embedded", "kafka", "kafka3"), default="embedded")
    parser.add_argument("--seed", type=int, help="repeats a campaign's faults (default: a new one)")
    parser.add_argument("--store", choices=("folder", "s3"), default="folder", help="where frames are stored")
    parser.add_argument("--only", default="", help="kinds of faults, comma separated (default: all)")
    parser.add_argument("--without", default="", help="kinds of faults to leave out")
    parser.add_argument("--interval", type=float, help="seconds between faults (default: depends on the broker)")
    parser.add_argument("--folder", type=Path, help="folder for all files (default: a new temporary folder)")
    given = parser.parse_args()
    seed = random.randrange(1 << 32) if given.seed is None else given.seed
    only, without = (tuple(name for name in names.split(",") if name) for names in (given.only, given.without))
    options = CampaignOptions(
        given.events, given.broker, seed, given.store, only=only, without=without, interval_s=given.interval
    )
    folder = given.folder or Path(tempfile.mkdtemp(prefix="standgale-campaign-"))
    folder.mkdir(parents=True, exist_ok=True)
    folder.chmod(0o755)  # PostgreSQL runs as another user where we are root
    logging.basicConfig(level=logging.WARNING, format="%(asctime)s %(message)s", datefmt="%H:%M:%S", stream=sys.stdout)
    logging.getLogger("tests.campaign").setLevel(logging.INFO)
    print(f"seed {seed}, {given.events} faults on {given.broker}; logs in {folder / 'logs'}", flush=True)
    try:
        report = asyncio.run(_stoppable(options, folder))
    except (asyncio.CancelledError, KeyboardInterrupt):
        print("ended early; no frame is accounted for")
        return 130
    except PlanError as error:
        parser.error(str(error))
    report.print()
    return 1 if report.problems else 0


async def _stoppable(options: CampaignOptions, folder: Path) -> CampaignReport:
    """Run the campaign; SIGTERM ends it as Ctrl-C does, so that no server or process is left behind."""
    task = asyncio.current_task()
    assert task is not None
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, task.cancel)
    return await run(options, folder)


if __name__ == "__main__":
    sys.exit(main())
