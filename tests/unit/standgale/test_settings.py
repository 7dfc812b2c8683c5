"""Settings: where they come from, which are refused, and what the refusal says."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from pydantic import SecretStr, ValidationError

from infra.errors import SettingsError
from infra.process.settings_sources import secret_file
from infra.secrets import read_secret, secrets_of
from infra.sections import Section
from standgale.settings import Settings, load_settings, settings_markdown, settings_reference
from tests.paths import ROOT


@pytest.fixture(autouse=True)
def no_standgale_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    import os

    for name in list(os.environ):
        if name.startswith("STANDGALE_"):
            monkeypatch.delenv(name)


def write(folder: Path, text: str) -> Path:
    path = folder / "standgale.yaml"
    path.write_text(text, encoding="utf-8")
    return path


def refusal(config: Path | None = None, overrides: dict[str, object] | None = None) -> str:
    with pytest.raises(SettingsError) as caught:
        load_settings(config, overrides)
    return str(caught.value)


def test_defaults_stand_alone() -> None:
    assert load_settings() == Settings()


def test_overrides_win_over_environment_over_file_over_defaults(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = write(tmp_path, "gateway: {port: 1, max_image_bytes: 11, min_side_px: 21}\n")
    monkeypatch.setenv("STANDGALE_GATEWAY__PORT", "2")
    monkeypatch.setenv("STANDGALE_GATEWAY__MAX_IMAGE_BYTES", "12")

    gateway = load_settings(config, {"gateway.port": 3}).gateway

    assert (gateway.port, gateway.max_image_bytes, gateway.min_side_px) == (3, 12, 21)
    assert gateway.max_side_px == Settings().gateway.max_side_px


def test_config_variable_names_the_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("STANDGALE_CONFIG", str(write(tmp_path, "retry: {record_attempts: 7}\n")))
    assert load_settings().retry.record_attempts == 7


@pytest.mark.parametrize("text", ["https://a.example, https://b.example", '["https://a.example", "https://b.example"]'])
def test_lists_from_environment(monkeypatch: pytest.MonkeyPatch, text: str) -> None:
    monkeypatch.setenv("STANDGALE_GATEWAY__CORS_ORIGINS", text)
    assert load_settings().gateway.cors_origins == ("https://a.example", "https://b.example")


def test_lists_from_file_and_empty_sections(tmp_path: Path) -> None:
    settings = load_settings(write(tmp_path, "sse:\n  cors_origins: [https://a.example]\ngateway:\n"))
    assert settings.sse.cors_origins == ("https://a.example",)
    assert settings.gateway == Settings().gateway


def test_empty_variable_is_not_given(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("STANDGALE_GATEWAY__PORT", "")
    assert load_settings().gateway.port == Settings().gateway.port


def test_every_fault_is_told_at_once_with_both_names(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    config = write(tmp_path, "retry: {record_attempts: 0}\ngateway: {prot: 1}\n")
    monkeypatch.setenv("STANDGALE_BROKER__KIND", "rabbit")
    monkeypatch.setenv("STANDGALE_DETECTOR__THREADS", "many")
    monkeypatch.setenv("STANDGALE_SINKS__BATCH_RECORD", "1")
    monkeypatch.setenv("STANDGALE_SSE__TOKENS", "[broken")

    text = refusal(config, {"gateway.hots": "x"})

    lines = text.splitlines()
    assert lines[0] == "7 settings are wrong:"
    assert any("retry.record_attempts (STANDGALE_RETRY__RECORD_ATTEMPTS): received 0" in line for line in lines)
    assert any("gateway.prot: there is no such setting; did you mean gateway.port?" in line for line in lines)
    assert any(
        "broker.kind (STANDGALE_BROKER__KIND): received 'rabbit'; it takes one of embedded, kafka" in line
        for line in lines
    )
    assert any("received 'many'; it takes a whole number at least 0" in line for line in lines)
    assert any("STANDGALE_SINKS__BATCH_RECORD" in line and "STANDGALE_SINKS__BATCH_RECORDS?" in line for line in lines)
    assert any("sse.tokens (STANDGALE_SSE__TOKENS)" in line and "not JSON" in line for line in lines)
    assert any("gateway.hots: there is no such setting" in line for line in lines)


def test_whole_section_as_a_variable_is_unknown(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("STANDGALE_GATEWAY", '{"port": 1}')
    assert "STANDGALE_GATEWAY: there is no such setting" in refusal()


def test_kubernetes_service_variable_is_explained(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("STANDGALE_SERVICE_HOST", "10.0.0.1")
    assert "enableServiceLinks: false" in refusal()


def test_test_variables_are_no_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("STANDGALE_TEST_DATA", "anywhere")
    assert load_settings() == Settings()


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("gateway: [1]\n", "gateway: received list; it takes a section"),
        ("- 1\n", "holds a list, not sections"),
        ("gateway: {port: [}\n", "is not YAML at line 1"),
        ("retry: {max_delay_s: .inf}\n", "retry.max_delay_s"),
    ],
)
def test_files_that_are_wrong(tmp_path: Path, text: str, said: str) -> None:
    assert said in refusal(write(tmp_path, text))


def test_missing_file_is_named(tmp_path: Path) -> None:
    text = refusal(tmp_path / "absent.yaml")
    assert "absent.yaml" in text
    assert "STANDGALE_CONFIG" in text


def test_file_that_is_not_text(tmp_path: Path) -> None:
    path = tmp_path / "binary.yaml"
    path.write_bytes(b"\xff\xfe\x00")
    assert "not UTF-8" in refusal(path)


@pytest.mark.parametrize(
    ("overrides", "said"),
    [
        (
            {"database.pool_min": 9, "database.pool_max": 2},
            "database.pool_min (STANDGALE_DATABASE__POOL_MIN): received 9; it takes at most "
            "database.pool_max (STANDGALE_DATABASE__POOL_MAX), which is 2",
        ),
        ({"gateway.min_side_px": 512, "gateway.max_side_px": 511}, "gateway.max_side_px"),
        ({"retry.first_delay_s": 5, "retry.max_delay_s": 1}, "retry.first_delay_s"),
        (
            {"frames.access_key": "only-one"},
            "frames.secret_key (STANDGALE_FRAMES__SECRET_KEY): missing while the other",
        ),
        (
            {"models.secret_key": "only-one"},
            "models.access_key (STANDGALE_MODELS__ACCESS_KEY): missing while the other",
        ),
        ({"frames.kind": "s3", "frames.max_bytes": 5}, "frames.max_bytes (STANDGALE_FRAMES__MAX_BYTES): received 5"),
        (
            {"models.kind": "lakefs"},
            "models.endpoint_url, models.access_key and models.secret_key (STANDGALE_MODELS__ENDPOINT_URL, "
            "STANDGALE_MODELS__ACCESS_KEY, STANDGALE_MODELS__SECRET_KEY): all three are needed",
        ),
        ({"models.endpoint_url": "ftp://x"}, "models.endpoint_url (STANDGALE_MODELS__ENDPOINT_URL): takes http://"),
        ({"models.load_path": "x"}, "models.load_path (STANDGALE_MODELS__LOAD_PATH): received 'x'"),
        (
            {"detector.late_policy": "give_up"},
            "detector.late_policy (STANDGALE_DETECTOR__LATE_POLICY): received give_up with "
            "detector.live_deadline_s (STANDGALE_DETECTOR__LIVE_DEADLINE_S) None",
        ),
        (
            {"broker.kind": "kafka", "broker.security_protocol": "SASL_SSL"},
            "broker.sasl_username and broker.sasl_password (STANDGALE_BROKER__SASL_USERNAME, "
            "STANDGALE_BROKER__SASL_PASSWORD): both are needed",
        ),
        (
            {"broker.ssl_certfile": "/c.pem"},
            "broker.ssl_keyfile (STANDGALE_BROKER__SSL_KEYFILE): missing while the other one is given",
        ),
    ],
)
def test_settings_that_do_not_fit_together(overrides: dict[str, object], said: str) -> None:
    assert said in refusal(overrides=overrides)


def test_a_secret_is_never_repeated(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    config = write(tmp_path, "database: {url: [hush-hush]}\nframes: {access_key: {deep: hush-hush}}\n")
    monkeypatch.setenv("STANDGALE_GATEWAY__PORT", "none")
    with pytest.raises(SettingsError) as caught:
        load_settings(config)
    assert "database.url (STANDGALE_DATABASE__URL): received **********" in str(caught.value)
    assert "hush" not in str(caught.value)
    assert "hush" not in repr(caught.value.__cause__) + repr(caught.value.__context__)


def test_secret_from_a_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "url"
    path.write_text("postgresql://someone:p%40ss-hush@db/x\n", encoding="utf-8")
    monkeypatch.setenv("STANDGALE_DATABASE__URL_FILE", str(path))
    settings = load_settings()
    assert settings.database.url == SecretStr("postgresql://someone:p%40ss-hush@db/x")
    assert "hush" not in repr(settings)
    assert {"p%40ss-hush", "p@ss-hush"} < secrets_of(settings)


def test_a_secret_in_a_file_can_be_read_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "url"
    path.write_text("postgresql://user:one@host/db\n")
    assert secret_file("database.url") is None
    monkeypatch.setenv("STANDGALE_DATABASE__URL_FILE", str(path))
    assert secret_file("database.url") == path
    path.write_text("postgresql://user:two@host/db\n")
    assert read_secret(path) == "postgresql://user:two@host/db"
    path.unlink()
    assert read_secret(path) is None


def test_secret_file_that_cannot_be_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("STANDGALE_DATABASE__URL_FILE", str(tmp_path / "absent"))
    assert "database.url (STANDGALE_DATABASE__URL_FILE): the secret's file" in refusal()


def test_settings_never_change() -> None:
    settings = load_settings()
    with pytest.raises(ValidationError):
        settings.gateway.port = 1  # type: ignore[misc]  # that it is refused is the test


def test_frames_folder_follows_the_data_folder() -> None:
    assert load_settings(None, {"data_dir": "/d"}).frames_folder == Path("/d/frames")
    assert load_settings(None, {"data_dir": "/d", "frames.folder": "/f"}).frames_folder == Path("/f")


def test_every_setting_can_be_given_by_its_variable_name() -> None:
    reference = settings_reference()
    assert len({setting.variable for setting in reference}) == len(reference)
    by_path = {setting.path: setting for setting in reference}
    assert by_path["gateway.port"].variable == "STANDGALE_GATEWAY__PORT"
    assert by_path["gateway.port"].takes == "a whole number at least 0 and at most 65535"
    assert by_path["broker.replication"].takes == "a whole number at least 1"
    assert by_path["sse.tokens"].secret
    assert settings_markdown().count("\n") == len(reference) + 2


def test_a_section_calls_itself_what_the_settings_call_it() -> None:
    for name, field in Settings.model_fields.items():
        if isinstance(field.annotation, type) and issubclass(field.annotation, Section):
            assert field.annotation.section in ("", name)


def test_infra_knows_neither_engines_nor_sinks() -> None:
    foreign = re.compile(
        "EngineKind|openvino|onnxruntime|tensorrt|SseSettings|DetectorSettings|GatewaySettings|SSE_|INFERENCE_"
    )
    for path in (ROOT / "infra").rglob("*.py"):
        assert not foreign.search(path.read_text(encoding="utf-8")), path
