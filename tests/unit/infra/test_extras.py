"""Checks the advice to install an extra."""

from __future__ import annotations

import re
import tomllib
from importlib.metadata import packages_distributions

from infra.extras import extra_with, install_extra
from tests.paths import ROOT


def test_install_extra_names_all_extras_for_uv_and_the_new_one_for_pip() -> None:
    assert install_extra("geo") == (
        "install the extra geo of standgale: in its checkout `uv tool install '.[server,cpu,embedded,geo]'`, "
        "or `pip install -e '.[geo]'`"
    )


def test_install_extra_names_several_extras_once() -> None:
    assert install_extra("cpu", "quantize") == (
        "install the extras cpu and quantize of standgale: in its checkout "
        "`uv tool install '.[server,cpu,embedded,quantize]'`, or `pip install -e '.[cpu,quantize]'`"
    )


def test_install_extra_leaves_cpu_out_beside_cuda() -> None:
    assert "`uv tool install '.[server,embedded,cuda]'`" in install_extra("cuda")


def test_extra_with_names_the_extra_of_a_module_that_is_missing() -> None:
    assert extra_with("fastapi.routing") == extra_with("cv2") == "server"
    assert extra_with("aiohttp") is extra_with("my_plugin") is extra_with(None) is None


def test_extra_with_knows_the_modules_of_all_libraries_of_the_extra_server() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    modules_of: dict[str, set[str]] = {}
    for module, names in packages_distributions().items():
        for name in names:
            modules_of.setdefault(name.lower().replace("_", "-"), set()).add(module)
    unknown = {
        name
        for name in (re.split(r"[>\[]", each)[0] for each in project["optional-dependencies"]["server"])
        if not any(extra_with(module) == "server" for module in modules_of[name])
    }
    assert unknown == set()
    assert {extra_with(re.split(r"[>\[]", each)[0]) for each in project["dependencies"]} == {None}
