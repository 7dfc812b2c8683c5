"""Every code of the live stream is explained, on its own server and on that of `standgale up`."""

from __future__ import annotations

import importlib
import pkgutil
import re
from pathlib import Path

import pytest
from starlette.testclient import TestClient

import sinks.sse
from console.http.error_codes import CONSOLE_CODES
from infra.broker.embedded.adapter import EmbeddedBroker
from schemas.errors import StandgaleError
from schemas.topics import load_topics
from sinks.settings import SseSettings
from sinks.sse.access.access import StreamAccess
from sinks.sse.error_codes import SSE_CODES
from sinks.sse.http import STREAM_PATH, create_sse_app
from sinks.sse.hub import DetectionHub
from sinks.sse.positions import PositionError
from tests.unit.console.http.test_error_codes import subclasses

_LITERAL = re.compile(r'error_answer\(request, \d+, "([A-Z_]+)"')


def stream_codes() -> set[str]:
    for module in pkgutil.walk_packages(sinks.sse.__path__, "sinks.sse."):
        importlib.import_module(module.name)
    kinds = {kind for kind in subclasses(StandgaleError) if kind.__module__.startswith("sinks.sse.")}
    # A place that cannot be resumed is an event of the stream.
    codes = {str(kind.code) for kind in kinds - {PositionError}}  # type: ignore[attr-defined]
    folder = Path(sinks.sse.__path__[0])
    return codes | {code for path in folder.rglob("*.py") for code in _LITERAL.findall(path.read_text())}


def test_each_code_of_the_stream_is_explained() -> None:
    assert {"INVALID_FILTER", "TOO_MANY_CLIENTS", "OVERLOADED", "INVALID_ADDRESS"} <= stream_codes()
    for codes in (SSE_CODES, CONSOLE_CODES):
        assert stream_codes() | {"IMAGE_MISSING", "IMAGE_CORRUPT", "STORAGE_UNAVAILABLE"} <= set(codes)


@pytest.mark.parametrize(("query", "code"), [("?colour=red", "INVALID_FILTER"), ("", "UNAUTHORIZED")])
def test_an_error_leads_to_its_page_on_the_same_server(tmp_path: Path, query: str, code: str) -> None:
    settings = SseSettings() if query else SseSettings(tokens=("secret",))  # type: ignore[arg-type]
    hub = DetectionHub(EmbeddedBroker(tmp_path / "broker.db", load_topics()), settings)
    with TestClient(create_sse_app(hub, settings, StreamAccess(settings))) as http:
        error = http.get(f"{STREAM_PATH}{query}").json()["error"]
        assert error["code"] == code
        page = http.get(error["documentation_url"])
    assert (page.status_code, code in page.text) == (200, True)
