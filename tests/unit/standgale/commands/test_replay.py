"""The options of `replay` are checked before anything is opened; its lines say what became of the items."""

from __future__ import annotations

import time
from datetime import UTC, datetime, timedelta

import pytest

from infra.errors import SettingsError
from ingest.replay.port import Totals
from ingest.replay.progress import Progress
from ingest.replay.report import ReplayResult
from standgale.commands.replay import _duration, _lines, _model, _require_sensible, _status
from standgale.replays import ReplayRequest

MOMENT = datetime(2026, 5, 1, tzinfo=UTC)
FUTURE = datetime(2999, 1, 1, tzinfo=UTC)


@pytest.mark.parametrize(
    ("request_", "text"),
    [
        (ReplayRequest(None, "d"), "either a source"),
        (ReplayRequest("x", "d", topic="frames.live"), "either a source"),
        (ReplayRequest("x", None), "--device is missing"),
        (ReplayRequest("x", "a b"), "a device id"),
        (ReplayRequest("x", "d", again=True, restart=True), "one of --again and --restart"),
        (ReplayRequest("x", "d", since=MOMENT), "are for --topic"),
        (ReplayRequest(None, "d", topic="detections", since=MOMENT), "it takes frames.live or frames.jobs"),
        (ReplayRequest(None, "d", topic="frames.backfill", since=MOMENT), "it takes frames.live"),
        (ReplayRequest(None, "d", topic="frames.live"), "--from is missing"),
        (ReplayRequest(None, "d", topic="frames.live", since=MOMENT, until=MOMENT), "nothing to replay"),
        (ReplayRequest(None, "d", topic="frames.live", since=FUTURE), "--from is 2999-.* in the future"),
        (ReplayRequest(None, "d", topic="frames.live", since=MOMENT, until=FUTURE), "--to is 2999-.* in the future"),
    ],
)
def test_require_sensible_refuses_options_that_do_not_fit(request_: ReplayRequest, text: str) -> None:
    with pytest.raises(SettingsError, match=text):
        _require_sensible(request_)


def test_require_sensible_takes_sources_and_topics() -> None:
    _require_sensible(ReplayRequest("x", "d", again=True))
    _require_sensible(ReplayRequest(None, None, topic="frames.live", since=MOMENT, until=MOMENT + timedelta(seconds=1)))


def test_model_needs_name_and_version() -> None:
    assert (_model("a@b@1.0").name, _model("a@b@1.0").version) == ("a@b", "1.0")
    for text in ("finder", "finder@", "@1.0"):
        with pytest.raises(SettingsError, match="NAME@VERSION"):
            _model(text)


def test_status_has_count_time_left_and_waits() -> None:
    progress = Progress(done=50, before=10, refused=1, totals=Totals(160))
    progress.began_s = time.monotonic() - 10.0
    progress.wait("store", "it is away")
    assert _status(progress) == "60 of 160, 0:00:20 left, 5.0/s, 1 refused, waits: it is away"
    progress.wait("store", None)
    assert _status(progress, short=True) == "5.0/s, 1 refused"


def test_lines_name_refused_items_and_their_file() -> None:
    first = [{"name": f"{number}.jpg", "code": "CODE", "reason": "why"} for number in range(2)]
    found = ReplayResult("n", True, 5, 1, 3, {"CODE": 3}, 2, 100, 5.0, first, ["a note"], "refused.jsonl")
    assert list(_lines(found, Progress(), dry=False, rate=None)) == [
        "5 frames accepted, 100 bytes",
        "1 known already",
        "2 files passed over: no pictures by their names (replay.suffixes)",
        "a note",
        "refused: 0.jpg: why (CODE)",
        "refused: 1.jpg: why (CODE)",
        "and 1 more refused",
        "3 refused items with the reason: refused.jsonl",
    ]
    assert _duration(3_725) == "1:02:05"


def test_lines_of_a_source_without_frames_name_the_source() -> None:
    found = ReplayResult("n", True, 0, 0, 0, {}, 0, 0, 0.0, [], [], None)
    assert any("no frame was found" in line for line in _lines(found, Progress(), dry=False, rate=None))
