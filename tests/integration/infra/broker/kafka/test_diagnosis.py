"""Tests that the reason why Kafka cannot be reached is named at once: password, certificate, host name, protocol."""

from __future__ import annotations

import logging
import time
from pathlib import Path

import pytest
from pydantic import SecretStr

from infra.broker.kafka.adapter import KafkaBroker
from infra.broker.port import GroupSpec
from infra.broker.settings import BrokerSettings
from infra.deploy.kafka import KafkaServer, Security
from infra.deploy.kafka.certificates import Certificates
from infra.deploy.kafka.security import MTLS
from infra.errors import BrokerUnavailableError, RefusedError, SettingsError
from tests.harnesses.topic_pair import TIMEOUT_S
from tests.servers.kafka import SECURED_USERS

pytestmark = pytest.mark.integration

AT_ONCE_S = 10.0
"""Far less than the 60 s that a request may take in these tests."""
SCRAM = {"sasl_mechanism": "SCRAM-SHA-512", "sasl_username": "worker", "sasl_password": SecretStr("worker-secret")}


def settings(address: str, protocol: str, **more: object) -> BrokerSettings:
    return BrokerSettings(
        kind="kafka", bootstrap_servers=address, security_protocol=protocol, request_timeout_s=60.0, **more
    )


async def refusal(settings: BrokerSettings) -> str:
    """Return the one error text with which all clients of the broker refuse to start, at once."""
    broker = KafkaBroker(settings, {})
    began = time.monotonic()
    consumer = await broker.consumer(GroupSpec("group", ("topic",)))
    texts = []
    for attempt in (broker.publisher, broker.reader, broker.admin, lambda: consumer.poll(max_records=1, timeout_s=0.1)):
        with pytest.raises(RefusedError) as caught:
            await attempt()
        texts.append(str(caught.value))
    assert time.monotonic() - began < AT_ONCE_S
    await consumer.close()
    await broker.close()
    reasons = {text.partition(" failed: ")[2] for text in texts}
    assert len(reasons) == 1, texts
    (reason,) = reasons
    assert "AddressFamily" not in reason
    assert "AF_INET" not in reason
    assert not any(secret in reason for secret in SECURED_USERS.values())
    return reason


@pytest.fixture
def authority(secured_kafka: KafkaServer) -> Path:
    return Security().certificates(secured_kafka.home).authority


@pytest.mark.parametrize("protocol", ["SASL_PLAINTEXT", "SASL_SSL"])
async def test_wrong_password_is_named(
    secured_kafka: KafkaServer, authority: Path, caplog: pytest.LogCaptureFixture, protocol: str
) -> None:
    wrong = {**SCRAM, "sasl_password": SecretStr("not-the-right-one")}
    caplog.set_level(logging.INFO)
    reason = await refusal(settings(secured_kafka.address(protocol), protocol, ssl_cafile=authority, **wrong))
    assert "broker.sasl_username and broker.sasl_password" in reason
    assert "not-the-right-one" not in caplog.text + reason


async def test_mechanism_that_the_broker_does_not_offer_is_named(secured_kafka: KafkaServer) -> None:
    plain = {**SCRAM, "sasl_mechanism": "PLAIN"}
    reason = await refusal(settings(secured_kafka.address("SASL_PLAINTEXT"), "SASL_PLAINTEXT", **plain))
    assert "broker.sasl_mechanism PLAIN" in reason


async def test_certificate_of_an_unknown_authority_is_named(secured_kafka: KafkaServer, tmp_path: Path) -> None:
    stranger = Certificates(tmp_path).authority
    reason = await refusal(settings(secured_kafka.address("SSL"), "SSL", ssl_cafile=stranger))
    assert "broker.ssl_cafile" in reason
    assert str(stranger) in reason


async def test_certificate_for_a_different_host_name_is_named(secured_kafka: KafkaServer, authority: Path) -> None:
    by_address = secured_kafka.address("SSL").replace("localhost", "127.0.0.1")
    reason = await refusal(settings(by_address, "SSL", ssl_cafile=authority))
    assert f"the certificate of {by_address} is not for this host name; in broker.bootstrap_servers" in reason


@pytest.mark.parametrize(
    ("listener", "protocol", "does"),
    [
        ("PLAINTEXT", "SSL", "speaks without TLS"),
        ("PLAINTEXT", "SASL_PLAINTEXT", "expects no user and password"),
        ("PLAINTEXT", "SASL_SSL", "speaks without TLS"),
        ("SSL", "PLAINTEXT", "speaks TLS"),
        ("SASL_SSL", "SASL_PLAINTEXT", "speaks TLS"),
        ("SSL", "SASL_SSL", "expects no user and password"),
        ("SASL_PLAINTEXT", "PLAINTEXT", "without user and password"),
        ("SASL_SSL", "SSL", "without user and password"),
    ],
)
async def test_listener_with_a_different_protocol_is_named(
    secured_kafka: KafkaServer, authority: Path, listener: str, protocol: str, does: str
) -> None:
    who = SCRAM if protocol.startswith("SASL") else {}
    reason = await refusal(settings(secured_kafka.address(listener), protocol, ssl_cafile=authority, **who))
    assert does in reason
    assert f"broker.security_protocol is {protocol}" in reason


async def test_client_certificate_is_required_and_accepted(
    secured_kafka: KafkaServer, authority: Path, tmp_path: Path
) -> None:
    address = secured_kafka.address(MTLS)
    assert "broker.ssl_certfile" in await refusal(settings(address, "SSL", ssl_cafile=authority))
    stranger = Certificates(tmp_path).client("worker")
    unknown = {"ssl_certfile": stranger.certificate, "ssl_keyfile": stranger.key}
    assert "broker.ssl_certfile" in await refusal(settings(address, "SSL", ssl_cafile=authority, **unknown))
    pair = Security().certificates(secured_kafka.home).client("worker")
    known = {"ssl_certfile": pair.certificate, "ssl_keyfile": pair.key}
    broker = KafkaBroker(settings(address, "SSL", ssl_cafile=authority, **known), {})
    await (await broker.reader()).close()
    await broker.close()


async def test_address_without_a_listener_is_named() -> None:
    both = "127.0.0.1:1,no.such.host.invalid:9092"
    broker = KafkaBroker(BrokerSettings(kind="kafka", bootstrap_servers=both, request_timeout_s=1.0), {})
    with pytest.raises(BrokerUnavailableError, match=r"connection refused|not known") as caught:
        await broker.publisher()
    assert "AddressFamily" not in str(caught.value)
    await broker.close()


@pytest.mark.parametrize("wrong", ["ssl_cafile", "ssl_certfile", "ssl_keyfile"])
def test_unusable_certificate_files_raise_at_the_start(tmp_path: Path, wrong: str) -> None:
    certificates = Certificates(tmp_path)
    pair = certificates.client("worker")
    files = {"ssl_cafile": pair.authority, "ssl_certfile": pair.certificate, "ssl_keyfile": pair.key}
    broken = tmp_path / "broken.pem"
    broken.write_text("no certificate", encoding="ascii")
    for path in (broken, tmp_path / "absent.pem"):
        with pytest.raises(SettingsError, match=f"broker.{wrong}"):
            KafkaBroker(settings("127.0.0.1:1", "SSL", **{**files, wrong: path}), {})


async def test_password_changed_in_its_file_is_used_without_a_restart(
    secured_kafka: KafkaServer, tmp_path: Path
) -> None:
    file = tmp_path / "password"
    file.write_text("of yesterday\n", encoding="ascii")
    given = settings(secured_kafka.address("SASL_PLAINTEXT"), "SASL_PLAINTEXT", **SCRAM)
    broker = KafkaBroker(given, {}, file)
    consumer = await broker.consumer(GroupSpec("group", ("topic",)))
    with pytest.raises(RefusedError, match=r"broker\.sasl_password"):
        await consumer.poll(max_records=1, timeout_s=0.1)
    file.write_text(SECURED_USERS["worker"], encoding="ascii")
    await (await broker.reader()).close()
    deadline = time.monotonic() + TIMEOUT_S
    while True:
        assert time.monotonic() < deadline
        try:
            await consumer.poll(max_records=1, timeout_s=0.2)
        except RefusedError as error:
            # Connected now, and this user has no right to the topic.
            if "lacks the right DESCRIBE on topic topic" in str(error):
                break
    await consumer.close()
    await broker.close()
