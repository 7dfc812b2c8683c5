"""Runs the campaign over every way out: ``python -m tests.campaign.outs --seed 7``; see docs/reliability.md."""

from __future__ import annotations

import argparse
import asyncio
import logging
import random
import signal
import sys
import tempfile
from pathlib import Path

from tests.campaign.outs.faults import OutsOptions
from tests.campaign.outs.report import OutsReport
from tests.campaign.outs.run import OutsCampaign, run
from tests.campaign.outs.site import ALL_SINKS
from tests.campaign.schedule import PlanError


def main() -> int:
    """Run one campaign; return 0 when each frame and detection is in each sink once."""
    parser = argparse.ArgumentParser(prog="python -m tests.campaign.outs", description=__doc__)
    parser.add_argument("--broker", choices=("embedded", "kafka"), default="embedded")
    parser.add_argument("--seed", type=int, help="repeats the moments of kills (default: a new one)")
    parser.add_argument("--kills", type=int, default=20, help="how often each sink is killed")
    parser.add_argument("--quiet", type=float, default=60.0, help="seconds without a fault, for comparison")
    parser.add_argument("--outage", type=float, default=60.0, help="seconds in which Annotations is away")
    parser.add_argument("--hold", type=float, default=15.0, help="seconds of each other fault")
    parser.add_argument("--answer", type=float, default=8.0, help="seconds of each answer of LakeFS")
    parser.add_argument("--sinks", default=",".join(ALL_SINKS), help="which sinks run, comma separated")
    parser.add_argument("--only", default="", help="faults whose names begin so, comma separated (default: all)")
    parser.add_argument("--folder", type=Path, help="folder for all files (default: a new temporary folder)")
    given = parser.parse_args()
    seed = random.randrange(1 << 32) if given.seed is None else given.seed
    only, sinks = (tuple(name for name in names.split(",") if name) for names in (given.only, given.sinks))
    options = OutsOptions(seed, given.kills, given.quiet, given.hold, given.answer, given.outage, only)
    folder = given.folder or Path(tempfile.mkdtemp(prefix="standgale-outs-"))
    folder.mkdir(parents=True, exist_ok=True)
    folder.chmod(0o755)  # PostgreSQL runs as another user where we are root
    logging.basicConfig(level=logging.WARNING, format="%(asctime)s %(message)s", datefmt="%H:%M:%S", stream=sys.stdout)
    logging.getLogger("tests.campaign").setLevel(logging.INFO)
    print(f"seed {seed} on {given.broker}; all files in {folder}", flush=True)
    try:
        report = asyncio.run(_stoppable(OutsCampaign(given.broker, sinks, options), folder))
    except (asyncio.CancelledError, KeyboardInterrupt):
        print("ended early; no frame is accounted for")
        return 130
    except PlanError as error:
        parser.error(str(error))
    report.print()
    return 1 if report.problems else 0


async def _stoppable(campaign: OutsCampaign, folder: Path) -> OutsReport:
    """Run the campaign; SIGTERM ends it as Ctrl-C does, so that no server or process is left behind."""
    task = asyncio.current_task()
    assert task is not None
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, task.cancel)
    return await run(campaign, folder)


if __name__ == "__main__":
    sys.exit(main())
