"""Commands and their child processes ignore modules of the caller's folder that are named like ours."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import orjson
import pytest

from standgale.children import standgale_command
from tests.paths import ROOT

pytestmark = pytest.mark.integration


@pytest.fixture
def folder(server_dir: Path) -> Path:
    """A folder as many FastAPI projects have it: it holds ``schemas.py`` and ``infra/``, which are not ours."""
    (server_dir / "schemas.py").write_text("raise ImportError('imported the schemas.py of the caller')\n")
    (server_dir / "infra").mkdir()
    (server_dir / "infra" / "__init__.py").write_text("raise ImportError('imported the infra/ of the caller')\n")
    return server_dir


def run(command: tuple[str, ...], folder: Path) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "STANDGALE_DATA_DIR": str(folder / "data"), "COLUMNS": "200"}
    return subprocess.run(
        command, cwd=folder, env=environment, capture_output=True, text=True, timeout=150, check=False
    )


def test_a_module_run_finds_the_modules_of_the_folder_first(folder: Path) -> None:
    done = run((sys.executable, "-m", "schemas"), folder)
    assert "imported the schemas.py of the caller" in done.stderr


@pytest.mark.parametrize(
    "command", [(sys.executable, "-m", "standgale", "settings"), standgale_command("settings")], ids=["-m", "-P -m"]
)
def test_settings_are_printed_where_modules_are_named_like_ours(command: tuple[str, ...], folder: Path) -> None:
    done = run(command, folder)
    assert done.returncode == 0, done.stderr
    assert "STANDGALE_DATA_DIR" in done.stdout


def test_the_demo_and_its_child_process_run_where_modules_are_named_like_ours(folder: Path) -> None:
    demo = ("demo", "--drones", "1", "--frames", "2", "--data-dir", str(folder / "demo"), "--json")
    done = run((sys.executable, "-m", "standgale", *demo), folder)
    assert done.returncode == 0, done.stderr
    report = orjson.loads(done.stdout)
    assert (report["complete"], report["seen"]) == (True, 2)


def test_children_of_a_package_that_is_not_installed_find_it(server_dir: Path) -> None:
    package = server_dir / "standgale"
    package.mkdir()
    (package / "__init__.py").touch()
    shutil.copy(ROOT / "standgale" / "__main__.py", package)
    (package / "start.py").write_text(
        "import subprocess, sys\n"
        "def main():\n"
        "    if sys.argv[1:] == ['child']:\n"
        "        print(__file__)\n"
        "    else:\n"
        "        subprocess.run([sys.executable, '-P', '-m', 'standgale', 'child'], check=True)\n"
    )
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    command = (sys.executable, "-m", "standgale")
    done = subprocess.run(
        command, cwd=server_dir, env=environment, capture_output=True, text=True, timeout=30, check=False
    )
    assert (done.stdout.strip(), done.returncode) == (str(package / "start.py"), 0), done.stderr
