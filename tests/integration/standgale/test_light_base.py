"""The base installation is the client side: help and edge client need none of the other libraries."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from importlib.metadata import packages_distributions

import pytest

from tests.paths import ROOT

# Only what the light installation has can be imported; each verb runs in this one process.
RUN = """
import contextlib, io, json, sys
missing = set(json.loads(sys.argv[1]))

class Missing:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in missing:
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)

sys.meta_path.insert(0, Missing())
from standgale.cli import main

def run(*arguments):
    sys.argv = ["standgale", *arguments]
    text = io.StringIO()
    with contextlib.redirect_stdout(text), contextlib.redirect_stderr(text), contextlib.suppress(SystemExit):
        main()
    return text.getvalue()

print(json.dumps({" ".join(one): run(*one) for one in json.loads(sys.argv[2])}))
"""
NEEDS_SERVER = [
    ["up"],
    ["gateway"],
    ["detect", "photo.jpg"],
    ["demo", "--frames", "1"],
    ["doctor"],
    ["device", "list"],
    ["source", "list"],
    ["sources"],
    ["migrate", "up"],
    ["dead", "list"],
    ["topics", "check"],
    ["model", "list"],
]
EDGE_VIDEO = ["edge", "--url", "http://127.0.0.1:1", "--video", "flight.mp4"]
LIGHT = [["--help"], ["edge", "--help"], ["settings"], ["edge", "status", "--spool", "none"], ["edge"], EDGE_VIDEO]


def missing_modules() -> list[str]:
    """Return the modules of all libraries that the light installation has not."""
    lock = (ROOT / "requirements" / "edge.lock").read_text(encoding="utf-8")
    light = {name.lower().replace("_", "-") for name in re.findall(r"^([\w.-]+)==", lock, re.MULTILINE)}
    ours = {path.name for path in ROOT.iterdir() if (path / "__init__.py").exists()}
    return [
        module
        for module, names in packages_distributions().items()
        if module not in ours and not light & {name.lower().replace("_", "-") for name in names}
    ]


@pytest.fixture(scope="module")
def printed(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """What each command prints where only the light installation is there."""
    folder = tmp_path_factory.mktemp("light")
    arguments = (json.dumps(missing_modules()), json.dumps([*NEEDS_SERVER, *LIGHT]))
    done = subprocess.run(
        [sys.executable, "-P", "-c", RUN, *arguments],
        cwd=folder,
        env={"PYTHONPATH": str(ROOT), "COLUMNS": "300", "STANDGALE_EDGE__TOKEN": "stg_example"},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    found: dict[str, str] = json.loads(done.stdout.splitlines()[-1])
    assert list(folder.iterdir()) == []
    return found


@pytest.mark.parametrize("command", [" ".join(one) for one in NEEDS_SERVER])
def test_verb_that_needs_the_server_names_the_extra_in_one_line(printed: dict[str, str], command: str) -> None:
    text = printed[command]
    assert re.fullmatch(
        r"error NOT_INSTALLED: this command needs \w+, which is not installed; install the extra server of standgale: "
        r"[^\n]+\n",
        text,
    ), text


def test_client_side_works_without_the_server(printed: dict[str, str]) -> None:
    assert "Finds small objects in aerial images" in printed["--help"]
    assert "edge.folder" in printed["edge --help"]
    assert "STANDGALE_EDGE__URL" in printed["settings"]
    assert "in the spool       0 frames, 0 bytes" in printed["edge status --spool none"]
    assert printed["edge"].startswith("error INVALID_SETTING: edge.url (STANDGALE_EDGE__URL) is not set")


def test_edge_video_names_both_extras_that_it_needs_at_once(printed: dict[str, str]) -> None:
    text = printed[" ".join(EDGE_VIDEO)]
    assert text.startswith("error NOT_INSTALLED: to read a video this command needs "), text
    assert "install the extras server and video of standgale" in text


def test_light_installation_has_neither_engine_nor_database_nor_web_framework() -> None:
    missing = set(missing_modules())
    assert {"numpy", "cv2", "onnxruntime", "asyncpg", "sqlalchemy", "fastapi", "uvicorn", "opentelemetry"} <= missing
    assert not missing & {"aiohttp", "pydantic", "typer", "rich", "yaml", "orjson"}
