"""Checks addresses of sources: logins are in files alone, and files in the folders that are allowed."""

from __future__ import annotations

from pathlib import Path
from urllib.parse import quote

import pytest

from infra.errors import SettingsError
from ingest.sources.address import allowed_file, full_address, shown, split_login
from ingest.sources.errors import SourceError

SECRET = "geheim:7@/%41"


def opened(logins: Path, address: str = "rtsp://cam.test:554/1?profile=2") -> str:
    return full_address("gate", address, has_login=True, logins=logins, folders=())


@pytest.mark.parametrize("scheme", ["rtsp", "rtsps", "http", "https"])
def test_a_login_is_taken_out_of_the_address_and_put_in_again(scheme: str, tmp_path: Path) -> None:
    plain, login = split_login(f"{scheme}://admin:s%40cret@cam.test:1/x?y=1")
    assert (plain, login) == (f"{scheme}://cam.test:1/x?y=1", "admin:s@cret")
    (tmp_path / "gate").write_text("admin:s@cret\n")
    assert opened(tmp_path, plain) == f"{scheme}://admin:s%40cret@cam.test:1/x?y=1"


def test_a_password_with_any_characters_is_escaped(tmp_path: Path) -> None:
    (tmp_path / "gate").write_text(f"admin:{SECRET}")
    assert opened(tmp_path) == "rtsp://admin:geheim%3A7%40%2F%2541@cam.test:554/1?profile=2"


@pytest.mark.parametrize("password", ["two words", " begins and ends ", "a://b", "geheimß€"])
def test_a_password_of_an_address_is_the_same_when_it_is_read_from_its_file(password: str, tmp_path: Path) -> None:
    address = f"rtsp://admin:{quote(password, safe='')}@cam.test:554/1"
    plain, login = split_login(address)
    assert login == f"admin:{password}"
    (tmp_path / "gate").write_text(f"{login}\n")
    assert opened(tmp_path, plain) == address


def test_a_password_with_control_characters_is_refused() -> None:
    with pytest.raises(SettingsError, match="no control characters"):
        split_login("rtsp://admin:a%0Ab@cam.test/1")


def test_a_login_file_may_hold_the_whole_address(tmp_path: Path) -> None:
    (tmp_path / "gate").write_text("rtsp://cam.test/1?token=abcdef")
    assert opened(tmp_path) == "rtsp://cam.test/1?token=abcdef"


@pytest.mark.parametrize(
    "content", [None, "", "  ", "a b", "a:b\nc", "rtsp://cam.test/1 2", "x" * 5_000, "file:///etc/passwd"]
)
def test_errors_about_logins_show_none(content: str | None, tmp_path: Path) -> None:
    if content is not None:
        (tmp_path / "gate").write_text(content)
    with pytest.raises((SourceError, SettingsError)) as raised:
        opened(tmp_path)
    assert "passwd" not in str(raised.value)


def test_shown_addresses_have_no_login_and_no_query() -> None:
    assert shown("rtsp://admin:secret@cam.test/1?token=abc") == "rtsp://cam.test:554/1"


def test_a_file_is_allowed_in_a_folder_of_the_setting_alone(tmp_path: Path) -> None:
    folder, outside = tmp_path / "videos", tmp_path / "other"
    folder.mkdir()
    outside.mkdir()
    (folder / "link.mp4").symlink_to(outside / "a.mp4")
    assert allowed_file(folder / "a.mp4", (folder,)) == (folder / "a.mp4").resolve()
    for path in (outside / "a.mp4", folder / ".." / "other" / "a.mp4", folder / "link.mp4", Path("/etc/passwd")):
        with pytest.raises(SourceError, match=r"sources\.folders \(STANDGALE_SOURCES__FOLDERS\)"):
            allowed_file(path, (folder,))
    with pytest.raises(SourceError, match="none of the folders"):
        allowed_file(folder / "a.mp4", ())
    with pytest.raises(SourceError, match="begins with /"):
        allowed_file(Path("a.mp4"), (folder,))
