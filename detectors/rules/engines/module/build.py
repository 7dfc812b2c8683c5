"""Brings trealla.wasm beside this file: the WebAssembly module in npm's package `trealla`, pinned by its hashes.

Run by `make rules-engine`, and by the build of a wheel; needs npm, and nothing of Standgale. The module is not in git:
everyone can make it again from the package that package-lock.json names.
"""

from __future__ import annotations

import base64
import hashlib
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

HERE = Path(__file__).resolve().parent
MODULE = HERE / "trealla.wasm"
SHA256 = "5d6fcf41b960b9ce1b3bab65acf25f02b531c880c9dc31eab8c58409caf7cf60"
_NPM_S = 300
# A WebAssembly module begins with "\\0asm"; the package holds it as text.
_EMBEDDED = re.compile(rb'"(AGFzbQ[A-Za-z0-9+/]{100000,}={0,2})"')


class BuildError(RuntimeError):
    """The module cannot be made; the text says why."""


def is_built() -> bool:
    """Return whether the right module is there."""
    return MODULE.is_file() and hashlib.sha256(MODULE.read_bytes()).hexdigest() == SHA256


def build() -> None:
    """Make the module if it is not there. Raises BuildError."""
    if is_built():
        return
    npm = shutil.which("npm")
    if npm is None:
        raise BuildError("npm was not found; install it (Debian: apt-get install npm)")
    with tempfile.TemporaryDirectory() as folder:
        for name in ("package.json", "package-lock.json"):
            shutil.copy(HERE / name, folder)
        command = [npm, "ci", "--ignore-scripts", "--no-audit", "--no-fund", "--loglevel=error"]
        try:
            done = subprocess.run(  # noqa: S603 (a fixed command)
                command, cwd=folder, capture_output=True, text=True, timeout=_NPM_S, check=False
            )
        except subprocess.TimeoutExpired as error:
            raise BuildError(f"npm ci did not end within {_NPM_S} s; is its registry reachable?") from error
        if done.returncode:
            raise BuildError(f"npm ci failed: {done.stderr.strip()[-500:]}")
        package = Path(folder) / "node_modules" / "trealla"
        module = _module_in((package / "trealla.js").read_bytes())
        for name in ("LICENSE", "ATTRIBUTION"):
            shutil.copy(package / name, HERE / f"trealla-{name}")
    unfinished = MODULE.with_suffix(".unfinished")
    unfinished.write_bytes(module)
    unfinished.replace(MODULE)


def _module_in(script: bytes) -> bytes:
    """Return the module that ``script`` holds and that has the known hash."""
    for match in _EMBEDDED.finditer(script):
        module = base64.b64decode(match.group(1))
        if hashlib.sha256(module).hexdigest() == SHA256:
            return module
    raise BuildError(f"the package has no WebAssembly module with SHA-256 {SHA256}")


if __name__ == "__main__":
    try:
        build()
    except BuildError as error:
        print(f"the rules engine was not built: {error}", file=sys.stderr)
        sys.exit(1)
