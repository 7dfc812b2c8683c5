"""Checks addresses of videos: schemes, secrets, and what is a path."""

from __future__ import annotations

from datetime import datetime
from pathlib import Path

import pytest

from infra.errors import SettingsError
from ingest.video.options import NetworkAddress, Selection, VideoSource, parse_address


@pytest.mark.parametrize("text", ["a.mp4", "/data/a.mp4", "concat:a.mp4", "subfile,,start,0:a", "C:a.mp4"])
def test_a_text_without_a_scheme_is_a_path(text: str) -> None:
    assert parse_address(text) == Path(text)


@pytest.mark.parametrize("scheme", ["file", "ftp", "gopher", "data", "rtmp", "crypto+file", "tcp"])
def test_other_schemes_are_refused_with_those_that_are_taken(scheme: str) -> None:
    with pytest.raises(SettingsError, match=r"is no scheme for a video.*rtsp://"):
        parse_address(f"{scheme}://host/a")


@pytest.mark.parametrize(
    "text", ["", "rtsp://", "rtsp:///a", "http://h:99999/", "http://h/a b", "rtsp://h/\r\nX", "a" * 3_000]
)
def test_addresses_that_cannot_be_read_are_refused(text: str) -> None:
    with pytest.raises(SettingsError, match="a video's address"):
        parse_address(text)


def test_user_password_and_query_are_not_shown() -> None:
    address = parse_address("rtsp://admin:secret@10.0.0.5/live?token=secret")
    assert isinstance(address, NetworkAddress)
    assert (address.port, address.user, address.password) == (554, "admin", "secret")
    assert address.target == "/live?token=secret"
    assert str(address) == "rtsp://10.0.0.5:554/live"
    assert "secret" not in repr(address).replace(address.target, "")


def test_addresses_of_ipv6_keep_their_brackets() -> None:
    assert str(parse_address("http://[fd00::5]:81/a")) == "http://[fd00::5]:81/a"


@pytest.mark.parametrize(
    "wrong", [{"every": 0}, {"per_second": 0.0}, {"per_second": 2_000.0}, {"change": 0.0}, {"change": 1.5}]
)
def test_a_selection_of_nothing_is_refused(wrong: dict[str, float]) -> None:
    with pytest.raises(SettingsError, match=next(iter(wrong))):
        Selection(**wrong)  # type: ignore[arg-type]  # one number of either type


def test_a_start_without_a_zone_is_refused() -> None:
    with pytest.raises(SettingsError, match="has no time zone"):
        VideoSource("a", "a.mp4", start=datetime(2026, 5, 1))  # noqa: DTZ001 (the error that is tested)
