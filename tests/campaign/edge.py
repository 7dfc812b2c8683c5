"""Runs a campaign on the edge client: ``python -m tests.campaign.edge --frames 10000``; see docs/edge.md."""

from __future__ import annotations

import argparse
import asyncio
import json
import sys
import tempfile
from pathlib import Path

from tests.harnesses.edge_backlog import send_live_frames_during_backlog
from tests.harnesses.edge_outages import Outages, send_through_outages
from tests.harnesses.long_link import Link, backlog_over_link


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
    parser.add_argument("--backlog", action="store_true", help="instead: live frames while FRAMES are a backlog")
    parser.add_argument("--link", action="store_true", help="instead: a backlog over 200 ms and 1 % loss, two ways")
    given = vars(parser.parse_args())
    if given.pop("link"):
        return _send_over_link(given["frames"])
    if given.pop("backlog"):
        return _send_backlog(given["frames"])
    outages = Outages(**given, timeout_s=7_200.0)
    folder = Path(tempfile.mkdtemp(prefix="standgale-edge-"))
    print(f"seed {outages.seed}; all files in {folder}", flush=True)
    account = asyncio.run(send_through_outages(folder, outages))
    print(json.dumps(vars(account)), flush=True)
    complete = account.frames == outages.frames and account.missing == account.left == account.refused == 0
    return 0 if complete and account.damaged == 0 and account.in_order else 1


def _send_backlog(frames: int) -> int:
    """Send a backlog of ``frames`` with five live frames a second; return 0 when 95 % of these took less than 2 s."""
    folder = Path(tempfile.mkdtemp(prefix="standgale-edge-"))
    waits = asyncio.run(send_live_frames_during_backlog(folder, frames, max(frames // 50, 10), interval_s=0.2))
    figures = {name: round(waits.percentile(share), 3) for name, share in (("p50_s", 0.5), ("p95_s", 0.95))}
    in_order = waits.backlog_in_order and waits.live_in_order and waits.backlog_in_backfill
    print(json.dumps({**figures, "live": len(waits.seconds), "in_order": in_order, "during": waits.sent_during}))
    return 0 if in_order and waits.percentile(0.95) < 2.0 else 1


def _send_over_link(frames: int) -> int:
    """Send a backlog of ``frames`` by requests and by the stream, with pictures of 2 kB and of 50 kB."""
    folder = Path(tempfile.mkdtemp(prefix="standgale-edge-"))
    for padding in (0, 48_000):
        for use_stream in (False, True):
            place = folder / f"{padding}-{use_stream}"
            rate = asyncio.run(backlog_over_link(place, frames, Link(), padding=padding, use_stream=use_stream))
            print(
                json.dumps({"bytes": 2_000 + padding, "stream": use_stream, "frames_per_s": round(rate, 2)}), flush=True
            )
    return 0


if __name__ == "__main__":
    sys.exit(main())
