"""What the logs of `standgale edge` mask, and what they show of a video's address."""

from __future__ import annotations

import pytest

from ingest.edge.settings import EdgeSettings
from standgale.commands.edge import secrets_to_mask
from standgale.settings import Settings


@pytest.mark.parametrize(
    ("video", "masked"),
    [
        ("/media/flight.mp4", set()),
        ("rtsp://192.168.7.20:554/live", set()),
        ("rtsp://admin:pass@192.168.7.20:554/live", {"rtsp://admin:pass@192.168.7.20:554/live", "pass"}),
        ("http://192.168.7.20:80/live?key=abc", {"http://192.168.7.20:80/live?key=abc"}),
    ],
)
def test_video_addresses_with_a_secret_are_masked(video: str, masked: set[str]) -> None:
    settings = Settings(edge=EdgeSettings.model_validate({"video": video, "token": "stg_1"}))
    assert secrets_to_mask(settings) == {"stg_1"} | masked
