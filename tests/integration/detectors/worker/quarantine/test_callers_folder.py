"""Checks that trials start in any folder: modules there with the names of ours, or of Python, are not imported."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from standgale.testing.graphs import write_model
from tests.paths import ROOT

TIMEOUT_S = 120
_PROGRAM = """
import asyncio, sys
from pathlib import Path
from detectors.model.loading import LoadRequest
from detectors.worker.quarantine.trial_process import TrialProcess

if __name__ == "__main__":
    asyncio.run(TrialProcess().load(LoadRequest(Path(sys.argv[1]), "onnxruntime", 1)))
    print("loaded")
"""
_STRANGE = 'raise SystemExit(f"{__name__} of the caller was imported")\n'


@pytest.fixture
def callers_folder(tmp_path: Path) -> Path:
    """A folder with a FastAPI project's ``schemas.py``, an ``infra`` package, and a module that Python has, too."""
    folder = tmp_path / "project"
    (folder / "infra").mkdir(parents=True)
    for name in ("schemas.py", "infra/__init__.py", "signal.py"):
        (folder / name).write_text(_STRANGE)
    return folder


@pytest.mark.parametrize("options", [(), ("-P",)], ids=["installed-script", "python-P"])
def test_trial_process_in_a_folder_with_schemas_and_infra_loads_the_model(
    callers_folder: Path, tmp_path: Path, options: tuple[str, ...]
) -> None:
    # As with the installed command, the script's folder is on the path, and the current one is not.
    program = tmp_path / "bin" / "program.py"
    program.parent.mkdir()
    program.write_text(_PROGRAM)
    card = write_model(tmp_path / "model")
    done = subprocess.run(
        [sys.executable, *options, str(program), str(card)],
        cwd=callers_folder,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=TIMEOUT_S,
        check=False,
    )
    assert (done.returncode, done.stdout) == (0, "loaded\n"), done.stderr
    assert "of the caller" not in done.stderr
