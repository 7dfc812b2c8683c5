"""Settings of a process: what they contain, their secrets, and which do not fit together."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from pydantic import SecretStr

from infra.errors import SettingsError
from infra.secrets import secrets_of
from infra.sections import Section
from standgale.settings import Settings, load_settings, settings_markdown, settings_reference
from tests.paths import ROOT

_ADDRESSES = ("url", "endpoint_url", "callback_url", "annotations_url")


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


def test_load_settings_without_input_returns_defaults() -> None:
    assert load_settings() == Settings()


def test_config_variable_names_the_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("STANDGALE_CONFIG", str(write(tmp_path, "retry: {record_attempts: 7}\n")))
    assert load_settings().retry.record_attempts == 7


def test_none_in_variables_turns_limits_of_retention_off(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("KEEP_CONFIDENCE", "RETENTION_DAYS", "MAX_TOTAL_GB"):
        monkeypatch.setenv(f"STANDGALE_RETENTION__{name}", "none")
    found = load_settings().retention
    assert (found.keep_confidence, found.retention_days, found.max_total_gb) == (None, None, None)


@pytest.mark.parametrize(
    ("overrides", "message"),
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
        (
            {"models.endpoint_url": "ftp://x"},
            "models.endpoint_url (STANDGALE_MODELS__ENDPOINT_URL): received 'ftp://x'; it takes http://",
        ),
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
def test_settings_that_do_not_fit_together(overrides: dict[str, object], message: str) -> None:
    assert message in refusal(overrides=overrides)


@pytest.mark.parametrize(
    ("path", "value", "received"),
    [
        ("data_dir", "a\0b", "'a\\x00b'"),
        ("frames.folder", "a\0b", "'a\\x00b'"),
        ("gateway.host", "a\0b", "'a\\x00b'"),
        ("database.url", "postgresql://user:hidden@host/a\0b", "**********"),
    ],
)
def test_a_null_character_is_part_of_no_setting(path: str, value: str, received: str) -> None:
    message = refusal(overrides={path: value})
    assert f"{path} (STANDGALE_{path.replace('.', '__').upper()}): received {received}; it takes" in message
    assert "it holds a null character" in message
    assert "hidden" not in message


@pytest.mark.parametrize(
    ("path", "least"),
    [
        ("sse.heartbeat_s", 0.1),
        ("sse.flush_interval_s", 0.001),
        ("gateway.token_refresh_s", 0.1),
        ("gateway.probe_interval_s", 0.1),
        ("detector.report_interval_s", 0.1),
        ("detector.commit_interval_s", 0.001),
        ("retry.first_delay_s", 0.001),
        ("retry.max_delay_s", 0.001),
        ("telemetry.silence_s", 1),
    ],
)
def test_an_interval_that_would_keep_a_core_busy_is_refused(path: str, least: float) -> None:
    message = refusal(overrides={path: "1e-9"})
    assert f"{path} (STANDGALE_{path.replace('.', '__').upper()}): received '1e-9'" in message
    assert f"it takes a number at least {least}" in message
    load_settings(None, {"retry.first_delay_s": 0.001, path: least})


def test_every_interval_has_a_least_value_that_is_not_zero() -> None:
    named = [setting for setting in settings_reference() if "interval" in setting.path or "how often" in setting.about]
    assert len(named) >= 6
    least = re.compile(r"at least (0\.0*[1-9]|[1-9])")
    assert [setting.path for setting in named if not least.search(setting.takes)] == []


def test_every_number_has_a_least_and_a_largest_value() -> None:
    """1e300 as gateway.max_clock_skew_s was taken, and ended the gateway with an OverflowError."""
    numbers = [setting for setting in settings_reference() if "number" in setting.takes]
    assert len(numbers) > 140
    low, high = ("at least", "greater than"), ("at most", "less than")
    unbounded = [
        setting.path
        for setting in numbers
        if not any(word in setting.takes for word in low) or not any(word in setting.takes for word in high)
    ]
    assert unbounded == []


def test_every_address_of_a_server_is_checked() -> None:
    """replay_s3.endpoint_url and inference_jobs.endpoint_url took minio:9000, media.annotations_url took http://."""
    addresses = [
        each
        for each in settings_reference()
        if each.path.rpartition(".")[2] in _ADDRESSES and not each.secret and each.path != "mqtt.url"
    ]
    assert len(addresses) == 9
    for setting in addresses:
        for wrong in ("minio:9000", "http://", "http://host:99999", "http://host/?a=b", "http://us er", "//host"):
            message = refusal(overrides={setting.path: wrong})
            assert f"{setting.path} ({setting.variable}): received {wrong!r}; it takes http://host:port" in message
        message = refusal(overrides={setting.path: "http://user:hu/sh@host"})
        assert "received 'http://**********@host'; it takes http://host:port or https://host" in message
        assert "hu/sh" not in message
        place, _, name = setting.path.partition(".")
        section = getattr(load_settings(None, {setting.path: "https://host:8443/base/"}), place)
        assert getattr(section, name) == "https://host:8443/base"


@pytest.mark.parametrize("value", ["1e300", "-1e300", "9" * 400, "inf", "nan"])
def test_no_number_takes_values_that_overflow(value: str) -> None:
    paths = [setting.path for setting in settings_reference() if "number" in setting.takes]
    for start in range(0, len(paths), 40):
        some = paths[start : start + 40]
        message = refusal(overrides=dict.fromkeys(some, value))
        assert [path for path in some if f"- {path} (" not in message] == []


def test_an_unknown_engine_lists_the_engines_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("STANDGALE_DETECTOR__ENGINE", "foo")
    with pytest.raises(SettingsError) as caught:
        load_settings()
    line = str(caught.value).splitlines()[1]
    assert line.startswith("- detector.engine (STANDGALE_DETECTOR__ENGINE): received 'foo'; it takes one of auto, ")
    assert line.endswith(", or the name of an installed plug-in")
    assert line.count("openvino") == 1


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


def test_frames_folder_follows_the_data_folder() -> None:
    assert load_settings(None, {"data_dir": "/d"}).frames_folder == Path("/d/frames")
    assert load_settings(None, {"data_dir": "/d", "frames.folder": "/f"}).frames_folder == Path("/f")


def test_fetched_models_are_kept_in_the_data_folder_unless_another_is_named() -> None:
    assert load_settings(None, {"data_dir": "/d"}).model_cache == Path("/d/model-cache")
    assert load_settings(None, {"data_dir": "/d", "models.cache": "/elsewhere"}).model_cache == Path("/elsewhere")


def test_every_setting_can_be_given_by_its_variable_name() -> None:
    reference = settings_reference()
    assert len({setting.variable for setting in reference}) == len(reference)
    by_path = {setting.path: setting for setting in reference}
    assert by_path["gateway.port"].variable == "STANDGALE_GATEWAY__PORT"
    assert by_path["gateway.port"].takes == "a whole number at least 0 and at most 65535"
    assert by_path["broker.replication"].takes == "a whole number at least 1 and at most 100, or none"
    assert by_path["sse.tokens"].secret
    assert settings_markdown().count("\n") == len(reference) + 2


def test_section_name_equals_its_field_in_settings() -> None:
    for name, field in Settings.model_fields.items():
        if isinstance(field.annotation, type) and issubclass(field.annotation, Section):
            assert field.annotation.section in ("", name)


def test_infra_knows_neither_engines_nor_sinks() -> None:
    foreign = re.compile(
        "EngineKind|openvino|onnxruntime|tensorrt|SseSettings|DetectorSettings|GatewaySettings|SSE_|INFERENCE_"
    )
    for path in (ROOT / "infra").rglob("*.py"):
        assert not foreign.search(path.read_text(encoding="utf-8")), path
