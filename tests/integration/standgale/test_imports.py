"""Importing in a fresh process: what a service exports from the start, and what settings must not load."""

from __future__ import annotations

import subprocess
import sys

from tests.paths import ROOT
from tests.unit.standgale.test_metrics import EXPECTED

# Only a process with an embedded broker imports it.
OF_THE_EMBEDDED_BROKER = {"standgale_retention_held_records"}
# Only the verb replay imports it.
OF_REPLAY = {"standgale_replayed_frames"}


# None of these is needed to print a help; each takes a tenth of a second or more.
HEAVY = {
    "aiohttp",
    "alembic",
    "asyncio",
    "asyncpg",
    "cv2",
    "fastapi",
    "numpy",
    "onnxruntime",
    "openvino",
    "opentelemetry",
}
HEAVY |= {"PIL", "prometheus_client", "psutil", "pydantic", "sqlalchemy", "starlette", "uvicorn", "yaml"}
EVERY_HELP = """
import sys
from contextlib import redirect_stdout, suppress
from io import StringIO
before = set(sys.modules)
import standgale.start
from standgale.cli import app, main
from typer.main import get_command

def helps(command, *names):
    with redirect_stdout(StringIO()) as printed, suppress(SystemExit):
        sys.argv = ["standgale", *names, "--help"]
        main()
    assert " ".join(("Usage: standgale", *names)) in printed.getvalue(), printed.getvalue()
    for name, inner in getattr(command, "commands", {}).items():
        helps(inner, *names, name)

helps(get_command(app))
print(*set(sys.modules) - before)
"""


def printed_by(code: str) -> set[str]:
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT)
    return set(run.stdout.split())


def test_a_service_exports_the_metrics_of_all_packages_before_their_first_use() -> None:
    exported = printed_by(
        "import standgale.services.run; from prometheus_client import REGISTRY; "
        "print(*(family.name for family in REGISTRY.collect()))"
    )
    assert set(EXPECTED) - OF_THE_EMBEDDED_BROKER - OF_REPLAY <= exported


def test_settings_load_no_engine_server_or_database() -> None:
    loaded = printed_by("import sys, standgale.settings; print(*sys.modules)")
    assert "pydantic" in loaded
    assert not loaded & {"numpy", "fastapi", "asyncpg", "aiokafka", "openvino", "onnxruntime", "opentelemetry"}


def test_help_of_every_verb_loads_nothing_that_takes_time() -> None:
    loaded = printed_by(EVERY_HELP)
    assert {"standgale.commands.detect", "standgale.commands.model.rollout"} <= loaded
    assert loaded & HEAVY == set()
