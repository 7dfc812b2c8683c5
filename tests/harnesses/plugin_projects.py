"""Reads example projects of plug-ins from the documentation, installs them and runs them in separate processes."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

from tests.paths import ROOT

_FILE = re.compile(r"^```(?:python|toml)\n# (\S+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)


class PluginProject:
    """Holds a project folder, and the folder into which its distribution is installed."""

    def __init__(self, folder: Path, files: Mapping[str, str]) -> None:
        self.folder = folder / "project"
        self.installed = folder / "installed"
        self.folder.mkdir(parents=True)
        for name, content in files.items():
            (self.folder / name).write_text(content, encoding="utf-8")

    @classmethod
    def of_page(cls, folder: Path, page: str) -> PluginProject:
        """Read the files of ``docs/<page>``: each code block that begins with a comment of a file's name."""
        text = (ROOT / "docs" / page).read_text(encoding="utf-8")
        return cls(folder, {name: f"# {name}\n{content}" for name, content in _FILE.findall(text)})

    def install(self) -> None:
        """Install the distribution with pip, without its dependencies, into a separate folder."""
        arguments = ["install", "--quiet", "--no-deps", "--no-build-isolation", "--no-index"]
        self._run("pip", "--disable-pip-version-check", *arguments, "--target", str(self.installed), str(self.folder))

    def python(self, *arguments: str, status: int = 0, **variables: str) -> str:
        """Run ``python -m`` with ``arguments``, the distribution on its path; return what it printed."""
        return self._run(*arguments, status=status, **variables)

    def environment(self, **variables: str) -> dict[str, str]:
        """Return the environment of a process that finds the installed distribution."""
        own = {
            "PYTHONPATH": os.pathsep.join((str(self.installed), str(ROOT))),
            # Any free port: the default one may be in use on this machine.
            "STANDGALE_TELEMETRY__HEALTH_PORT": "0",
        }
        return {**os.environ, **own, **variables}

    def _run(self, *arguments: str, status: int = 0, **variables: str) -> str:
        done = subprocess.run(
            [sys.executable, "-P", "-m", *arguments],
            cwd=self.folder,
            env=self.environment(**variables),
            capture_output=True,
            text=True,
            timeout=170,
            check=False,
        )
        assert done.returncode == status, f"{arguments}: {done.returncode}\n{done.stdout}\n{done.stderr}"
        return done.stdout + done.stderr
