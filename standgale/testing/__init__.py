"""Gives authors of plug-ins what they test with: contract suites to inherit, fakes to run against, and factories.

Each suite is a class whose tests an author inherits, with one fixture that gives the author's own implementation:
:mod:`standgale.testing.broker`, :mod:`standgale.testing.frame_store`, :mod:`standgale.testing.model_store`,
:mod:`standgale.testing.sink`, :mod:`standgale.testing.engine` and :mod:`standgale.testing.head`. Standgale's own
implementations pass the same suites. :mod:`~standgale.testing.factories` makes events, records and declarations,
:mod:`~standgale.testing.graphs` small ONNX detectors with their cards, :mod:`~standgale.testing.sink_site` runs a sink
against an embedded broker, and :mod:`~standgale.testing.gate` cuts the connections of a server.

Needs the extras ``server``, ``testing`` and ``cpu``, and ``asyncio_mode = "auto"`` in pytest's settings.
"""

from __future__ import annotations

from infra.extras import install_extra

try:
    import pytest
except ModuleNotFoundError as error:
    raise ImportError(
        f"standgale.testing needs pytest, which is not installed; {install_extra('server', 'testing', 'cpu')}",
        name="pytest",
    ) from error

# The suites assert in modules that are not test files; this makes pytest show the values of a failed assertion there.
pytest.register_assert_rewrite(
    *(
        f"{__name__}.{name}"
        for name in ("broker", "engine", "factories", "frame_store", "head", "model_store", "sink", "waiting")
    )
)
