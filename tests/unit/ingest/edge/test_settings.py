"""The settings of the edge client, alone and together."""

from __future__ import annotations

from pathlib import Path

import pytest
from pydantic import SecretStr, ValidationError

from infra.errors import SettingsError
from ingest.edge.run import require_settings
from ingest.edge.settings import EdgeSettings

URL = "https://gateway.example:8000"


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"url": "gateway:8000"}, "no address of a server"),
        ({"url": "https://user:secret@gateway"}, "a user or a password"),
        ({"url": "https://gateway/?a=b"}, "it has a . or a #"),
        ({"suffixes": ("jpg",)}, "begins with a dot"),
        ({"suffixes": (".json",)}, "side files"),
        ({"first_delay_s": 100.0}, "edge.max_delay_s"),
        ({"max_bytes": 1_000}, "edge.max_frame_bytes"),
        ({"backlog_share": 1.0}, "less than 1"),
        ({"flight": "../north"}, "characters A-Z"),
        ({"until": "closed"}, r"edge.flight \(STANDGALE_EDGE__FLIGHT\) is not set"),
    ],
)
def test_wrong_setting_is_an_error_that_names_it(settings: dict[str, object], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        EdgeSettings.model_validate(settings)


def test_url_ends_without_a_slash_and_suffixes_are_lower_case() -> None:
    settings = EdgeSettings(url=f"{URL}/", suffixes=(".JPG",))
    assert (settings.url, settings.suffixes) == (URL, (".jpg",))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"url": None}, r"edge.url \(STANDGALE_EDGE__URL\) is not set"),
        ({"folder": None}, r"edge.folder \(STANDGALE_EDGE__FOLDER\) is not set"),
        ({"token": None}, "standgale device add.*STANDGALE_EDGE__TOKEN_FILE"),
        ({"folder": "missing"}, "which is no folder"),
        ({"video": "/dev/null"}, r"STANDGALE_EDGE__VIDEO\) is /dev/null, a device.* as edge.folder"),
    ],
)
def test_require_settings_names_what_is_missing(tmp_path: Path, changes: dict[str, object], message: str) -> None:
    given: dict[str, object] = {"url": URL, "token": SecretStr("t"), "folder": tmp_path, **changes}
    if changes.get("folder") == "missing":
        given["folder"] = tmp_path / "missing"
    with pytest.raises(SettingsError, match=message):
        require_settings(EdgeSettings.model_validate(given), tmp_path.parent / "spool", None)


@pytest.mark.parametrize(("folder", "spool"), [("a", "a"), ("a", "a/spool"), ("a/b", "a")])
def test_spool_and_folder_are_not_in_each_other(tmp_path: Path, folder: str, spool: str) -> None:
    (tmp_path / folder).mkdir(parents=True)
    settings = EdgeSettings(url=URL, token=SecretStr("t"), folder=tmp_path / folder)
    with pytest.raises(SettingsError, match="neither may be in the other"):
        require_settings(settings, tmp_path / spool, None)
    require_settings(settings, tmp_path / "elsewhere", None)
    require_settings(settings.model_copy(update={"token": None}), tmp_path / "elsewhere", tmp_path / "token")
