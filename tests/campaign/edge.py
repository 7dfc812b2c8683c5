"""Runs a campaign on the edge client: ``python -m tests.campaign.edge --frames 10000``; see docs/edge.md."""

from __future__ import annotations

import argparse
import asyncio
import json
import sys
import tempfile
from pathlib import Path

from tests.harnesses.edge_outages import Outages, send_through_outages


def main() -> int:
    """Run one campaign; return 0 when every frame arrived once and in order."""
    parser = argparse.ArgumentParser(prog="python -m tests.campaign.edge", description=__doc__)
    parser.add_argument("--frames", type=int, default=10_000)
    parser.add_argument("--power-cuts", type=int, default=20, help="SIGKILL of the client, with a torn last file")
    parser.add_argument("--kills", type=int, default=10, help="SIGKILL of the gateway")
    parser.add_argument("--freezes", type=int, default=5, help="SIGSTOP of the gateway, beyond the client's time limit")
    parser.add_argument("--refusals", type=int, default=10, help="times in which the gateway's port is closed")
    parser.add_argument("--fails", type=float, default=0.5, help="the share of uploads that fail")
    parser.add_argument("--release", choices=("delete", "keep"), default="delete")
    parser.add_argument("--seed", type=int, default=7)
    given = vars(parser.parse_args())
    outages = Outages(**given, timeout_s=7_200.0)
    folder = Path(tempfile.mkdtemp(prefix="standgale-edge-"))
    print(f"seed {outages.seed}; all files in {folder}", flush=True)
    account = asyncio.run(send_through_outages(folder, outages))
    print(json.dumps(vars(account)), flush=True)
    complete = account.frames == outages.frames and account.missing == account.left == account.refused == 0
    return 0 if complete and account.damaged == 0 and account.in_order else 1


if __name__ == "__main__":
    sys.exit(main())
