"""Runs a campaign on the stream of frames: ``python -m tests.campaign.stream --frames 10000``; see docs/stream.md."""

from __future__ import annotations

import argparse
import asyncio
import json
import sys
import tempfile
from pathlib import Path

from tests.harnesses.stream_outages import StreamOutages, stream_through_outages


def main() -> int:
    """Run one campaign; return 0 when every frame arrived once and in order."""
    parser = argparse.ArgumentParser(prog="python -m tests.campaign.stream", description=__doc__)
    parser.add_argument("--frames", type=int, default=10_000)
    parser.add_argument("--kills", type=int, default=20, help="SIGKILL of the gateway")
    parser.add_argument("--restarts", type=int, default=10, help="SIGTERM of the gateway, and a start")
    parser.add_argument("--freezes", type=int, default=10, help="SIGSTOP of the gateway")
    parser.add_argument("--cuts", type=int, default=40, help="connections that are reset in the middle of a frame")
    parser.add_argument("--locks", type=int, default=10, help="times in which the broker's file is locked")
    parser.add_argument("--stores", type=int, default=10, help="times in which the store's folder is away")
    parser.add_argument("--broken", type=float, default=0.5, help="the share of pictures that are none")
    parser.add_argument("--seed", type=int, default=7)
    outages = StreamOutages(**vars(parser.parse_args()), timeout_s=3_600.0)
    folder = Path(tempfile.mkdtemp(prefix="standgale-stream-"))
    print(f"seed {outages.seed}; all files in {folder}", flush=True)
    account = asyncio.run(stream_through_outages(folder, outages))
    print(json.dumps(vars(account)), flush=True)
    complete = account.in_order and account.missing == account.repeated == 0
    return 0 if complete and account.acknowledged + account.refused == outages.frames else 1


if __name__ == "__main__":
    sys.exit(main())
