"""Checks the sources of settings, which settings are refused, and the error texts, on a small model."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Literal

import pytest
from pydantic import Field, SecretStr, ValidationError

from infra.errors import SettingsError
from infra.process.settings_reference import describe_settings, markdown_table
from infra.process.settings_sources import read_settings, secret_file
from infra.secrets import present_secret, read_secret, secrets_of
from infra.sections import Port, PositiveInt, PositiveSeconds, Section


class ServerSettings(Section):
    section = "server"

    kind: Literal["small", "large"] = "small"
    port: Port = 8000
    max_bytes: PositiveInt = 10
    min_side: PositiveInt = 20
    wait_s: PositiveSeconds = 1.0
    origins: tuple[str, ...] = ()
    tokens: tuple[SecretStr, ...] = ()
    url: SecretStr | None = None
    copies: Annotated[int, Field(ge=1)] | None = Field(default=None, description="how many")


class ClientSettings(Section):
    attempts: PositiveInt = 3


class Everything(Section):
    folder: Path = Path(".here")
    server: ServerSettings = ServerSettings()
    client: ClientSettings = ClientSettings()


def read(
    environ: Mapping[str, str] | None = None,
    config: Path | None = None,
    overrides: Mapping[str, object] | None = None,
) -> Everything:
    return read_settings(Everything, environ=environ or {}, config=config, overrides=overrides or {})


def refusal(
    environ: Mapping[str, str] | None = None,
    config: Path | None = None,
    overrides: Mapping[str, object] | None = None,
) -> str:
    with pytest.raises(SettingsError) as caught:
        read(environ, config, overrides)
    return str(caught.value)


def write(folder: Path, text: str) -> Path:
    path = folder / "standgale.yaml"
    path.write_text(text, encoding="utf-8")
    return path


def test_nothing_given_is_the_defaults() -> None:
    assert read() == Everything()


def test_overrides_win_over_environment_over_file_over_defaults(tmp_path: Path) -> None:
    config = write(tmp_path, "server: {port: 1, max_bytes: 11, min_side: 21}\n")
    environ = {"STANDGALE_SERVER__PORT": "2", "STANDGALE_SERVER__MAX_BYTES": "12"}

    server = read(environ, config, {"server.port": 3}).server

    assert (server.port, server.max_bytes, server.min_side) == (3, 12, 21)
    assert server.wait_s == ServerSettings().wait_s


@pytest.mark.parametrize("text", ["https://a.example, https://b.example", '["https://a.example", "https://b.example"]'])
def test_lists_from_environment(text: str) -> None:
    assert read({"STANDGALE_SERVER__ORIGINS": text}).server.origins == ("https://a.example", "https://b.example")


def test_lists_from_file_and_empty_sections(tmp_path: Path) -> None:
    settings = read(config=write(tmp_path, "server:\n  origins: [https://a.example]\nclient:\n"))
    assert settings.server.origins == ("https://a.example",)
    assert settings.client == ClientSettings()


def test_empty_variable_is_not_given() -> None:
    assert read({"STANDGALE_SERVER__PORT": "", "STANDGALE_SERVER__URL_FILE": ""}) == Everything()


def test_none_in_a_variable_takes_a_value_away_where_a_setting_may_have_none(tmp_path: Path) -> None:
    config = write(tmp_path, "server: {copies: 3, origins: [https://a.example]}\n")
    environ = {"STANDGALE_SERVER__COPIES": "none", "STANDGALE_SERVER__ORIGINS": "None"}
    server = read(environ, config).server
    assert (server.copies, server.origins) == (None, ())
    assert "received 'none'; it takes a whole number at least" in refusal({"STANDGALE_SERVER__PORT": "none"})
    assert read({"STANDGALE_SERVER__URL": "none"}).server.url == SecretStr("none"), "a password may be any word"


def test_every_problem_is_reported_at_once_with_both_names(tmp_path: Path) -> None:
    config = write(tmp_path, "client: {attempts: 0}\nserver: {prot: 1}\n")
    environ = {
        "STANDGALE_SERVER__KIND": "rabbit",
        "STANDGALE_SERVER__PORT": "many",
        "STANDGALE_CLIENT__ATTEMPT": "1",
        "STANDGALE_SERVER__TOKENS": "[broken",
    }

    text = refusal(environ, config, {"server.min_sidee": "x"})

    lines = text.splitlines()
    assert lines[0] == "7 settings are wrong:"
    assert any("client.attempts (STANDGALE_CLIENT__ATTEMPTS): received 0" in line for line in lines)
    assert any("server.prot: there is no such setting; did you mean server.port?" in line for line in lines)
    assert "- server.kind (STANDGALE_SERVER__KIND): received 'rabbit'; it takes one of small, large" in lines
    assert any("received 'many'; it takes a whole number at least 0 and at most 65535" in line for line in lines)
    assert any("STANDGALE_CLIENT__ATTEMPT:" in line and "STANDGALE_CLIENT__ATTEMPTS?" in line for line in lines)
    assert any("server.tokens (STANDGALE_SERVER__TOKENS)" in line and "not JSON" in line for line in lines)
    assert any("server.min_sidee: there is no such setting; did you mean server.min_side?" in line for line in lines)


def test_whole_section_as_a_variable_is_unknown() -> None:
    assert "STANDGALE_SERVER: there is no such setting" in refusal({"STANDGALE_SERVER": '{"port": 1}'})


def test_kubernetes_service_variable_is_explained() -> None:
    assert "enableServiceLinks: false" in refusal({"STANDGALE_SERVICE_HOST": "10.0.0.1"})


def test_variables_of_tests_and_of_other_programs_are_no_settings() -> None:
    assert read({"STANDGALE_TEST_DATA": "anywhere", "STANDGALE_CONFIG": "x", "SERVER__PORT": "1"}) == Everything()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("server: [1]\n", "server: received list; it takes a section"),
        ("- 1\n", "holds a list, not sections"),
        ("server: {port: [}\n", "is not YAML: line 1, column 17: expected the node content, but found '}'"),
        ("server: {wait_s: .inf}\n", "server.wait_s"),
    ],
)
def test_files_that_are_wrong(tmp_path: Path, text: str, message: str) -> None:
    assert message in refusal(config=write(tmp_path, text))


def test_a_section_that_is_no_mapping_is_a_problem_also_beside_a_variable(tmp_path: Path) -> None:
    config = write(tmp_path, "server: [1]\n")
    assert "server: received list" in refusal({"STANDGALE_SERVER__PORT": "1"}, config)


def test_the_reason_of_a_file_that_is_no_yaml_repeats_no_secret(tmp_path: Path) -> None:
    text = refusal(config=write(tmp_path, "server:\n  url: *hush-hush\n"))
    assert "is not YAML: line 2, column 8: found undefined alias" in text
    assert "hush" not in text


def test_of_many_problems_some_are_listed(tmp_path: Path) -> None:
    lines = refusal(config=write(tmp_path, "\n".join(f"setting_{number}: 1" for number in range(3_000)))).splitlines()
    assert "setting_0: there is no such setting" in lines[1]
    assert lines[-1] == "- … and more: the settings have 3,000 problems"
    assert len(lines) == 52


def test_a_long_value_is_repeated_in_short() -> None:
    text = refusal({"STANDGALE_SERVER__PORT": "x" * 100_000, "STANDGALE_" + "Y" * 100_000: "1"})
    assert "received 'xxx" in text
    assert len(text) < 1_000


def test_missing_file_is_named(tmp_path: Path) -> None:
    text = refusal(config=tmp_path / "absent.yaml")
    assert "absent.yaml" in text
    assert "STANDGALE_CONFIG" in text


def test_file_that_is_not_text(tmp_path: Path) -> None:
    path = tmp_path / "binary.yaml"
    path.write_bytes(b"\xff\xfe\x00")
    assert "not UTF-8" in refusal(config=path)


def test_a_secret_is_never_repeated(tmp_path: Path) -> None:
    config = write(tmp_path, "server: {url: [hush-hush], tokens: {deep: hush-hush}}\n")
    with pytest.raises(SettingsError) as caught:
        read({"STANDGALE_SERVER__PORT": "none"}, config)
    assert "server.url (STANDGALE_SERVER__URL): received **********" in str(caught.value)
    assert "hush" not in str(caught.value)
    assert "hush" not in repr(caught.value.__cause__) + repr(caught.value.__context__)


def test_secret_from_a_file(tmp_path: Path) -> None:
    path = tmp_path / "url"
    path.write_text("postgresql://someone:p%40ss-hush@db/x\n", encoding="utf-8")
    settings = read({"STANDGALE_SERVER__URL_FILE": str(path)})
    assert settings.server.url == SecretStr("postgresql://someone:p%40ss-hush@db/x")
    assert "hush" not in repr(settings)
    assert {"p%40ss-hush", "p@ss-hush"} < secrets_of(settings)


def test_a_secret_in_a_file_can_be_read_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "url"
    path.write_text("postgresql://user:one@host/db\n")
    monkeypatch.delenv("STANDGALE_SERVER__URL_FILE", raising=False)
    assert secret_file("server.url") is None
    monkeypatch.setenv("STANDGALE_SERVER__URL_FILE", str(path))
    assert secret_file("server.url") == path
    path.write_text("postgresql://user:two@host/db\n")
    assert read_secret(path) == "postgresql://user:two@host/db"
    path.unlink()
    assert read_secret(path) is None


def test_secret_file_that_cannot_be_read(tmp_path: Path) -> None:
    text = refusal({"STANDGALE_SERVER__URL_FILE": str(tmp_path / "absent")})
    assert "server.url (STANDGALE_SERVER__URL_FILE): the secret's file" in text


def test_settings_never_change() -> None:
    settings = read()
    with pytest.raises(ValidationError):
        settings.server.port = 1  # type: ignore[misc]  # that it is refused is the test


def test_the_reference_names_every_setting_and_what_it_takes() -> None:
    by_path = {setting.path: setting for setting in describe_settings(Everything).values()}
    assert list(by_path)[:3] == ["folder", "server.kind", "server.port"]
    assert by_path["server.port"].variable == "STANDGALE_SERVER__PORT"
    assert by_path["server.port"].takes == "a whole number at least 0 and at most 65535"
    assert by_path["server.copies"].takes == "a whole number at least 1, or none"
    assert by_path["server.tokens"].secret
    assert by_path["server.tokens"].many
    row = "| `STANDGALE_SERVER__COPIES` | `server.copies` | a whole number at least 1, or none | none | how many |"
    assert row in markdown_table(Everything).splitlines()


def test_a_section_names_its_settings_in_errors() -> None:
    assert ServerSettings.variable("port") == "STANDGALE_SERVER__PORT"
    assert ServerSettings.named("port") == "server.port (STANDGALE_SERVER__PORT)"
    both = "server.port and server.url (STANDGALE_SERVER__PORT, STANDGALE_SERVER__URL)"
    assert ServerSettings.named("port", "url") == both
    three = ServerSettings.named("port", "url", "kind")
    assert three.startswith("server.port, server.url and server.kind (STANDGALE_SERVER__PORT, STANDGALE_SERVER__URL, ")
    with pytest.raises(ValueError, match=r"received 20; it takes at most server\.max_bytes .*, which is 10"):
        ServerSettings().require_at_most("min_side", "max_bytes")


def test_present_secret_is_that_of_the_file_while_it_has_one(tmp_path: Path) -> None:
    file, given = tmp_path / "password", SecretStr("given")
    assert present_secret(None, None) is None
    assert present_secret(file, given) == "given", "the file is missing, as while it is replaced"
    file.write_text("rotated\n", encoding="ascii")
    assert (present_secret(file, given), present_secret(file, None)) == ("rotated", "rotated")
    file.write_text("", encoding="ascii")
    assert present_secret(file, given) == "given"
