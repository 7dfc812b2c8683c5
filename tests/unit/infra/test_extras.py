"""Checks the advice to install an extra."""

from __future__ import annotations

from infra.extras import install_extra


def test_install_extra_names_all_extras_for_uv_and_the_new_one_for_pip() -> None:
    assert install_extra("geo") == (
        "install the extra geo of standgale: in its checkout `uv tool install '.[cpu,embedded,geo]'`, "
        "or `pip install -e '.[geo]'`"
    )


def test_install_extra_names_several_extras_once() -> None:
    assert install_extra("cpu", "quantize") == (
        "install the extras cpu and quantize of standgale: in its checkout "
        "`uv tool install '.[cpu,embedded,quantize]'`, or `pip install -e '.[cpu,quantize]'`"
    )


def test_install_extra_leaves_cpu_out_beside_cuda() -> None:
    assert "`uv tool install '.[embedded,cuda]'`" in install_extra("cuda")
