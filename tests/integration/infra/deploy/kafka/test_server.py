"""Tests local Kafka brokers: found by their home, killed and frozen nodes, missing tools, rights and passwords."""

from __future__ import annotations

import asyncio
import ssl
import uuid
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from aiokafka import AIOKafkaProducer
from aiokafka.admin import AIOKafkaAdminClient, NewTopic
from aiokafka.errors import KafkaError, TopicAuthorizationFailedError
from aiokafka.helpers import create_ssl_context

from infra.deploy.kafka import KafkaCluster, KafkaServer, KafkaServerError
from infra.deploy.kafka.acls import Acls, Operation, Resource
from infra.deploy.kafka.config import write_configs
from infra.deploy.kafka.jars import ensure_jars, kafka_version, missing_tools
from infra.deploy.kafka.probing import nodes_seen
from tests.servers.kafka import SECURED_USERS

TIMEOUT_S = 60.0


@pytest.mark.integration
def test_running_broker_is_found_by_its_home(kafka_server: KafkaServer) -> None:
    home = kafka_server.home
    other = KafkaServer(home)
    pid = kafka_server.pid
    assert pid is not None
    assert (other.pid, other.bootstrap_servers, other.is_serving()) == (pid, kafka_server.bootstrap_servers, True)
    other.start()
    assert other.pid == pid


@pytest.mark.integration
def test_pid_of_another_process_is_not_taken_for_the_broker(kafka_server: KafkaServer, tmp_path: Path) -> None:
    (tmp_path / "kafka.pid").write_text(str(kafka_server.pid))
    stranger = KafkaServer(tmp_path)
    stranger.stop()
    stranger.kill()
    assert stranger.pid is None
    assert kafka_server.is_serving()


def test_home_without_a_broker_has_no_address(tmp_path: Path) -> None:
    with pytest.raises(KafkaServerError, match=r"server\.properties.*start the broker once"):
        _ = KafkaServer(tmp_path).bootstrap_servers


@pytest.mark.parametrize(("present", "missing"), [("mvn", "java"), ("java", "mvn")])
def test_missing_tool_is_named(present: str, missing: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tools = tmp_path / "bin"
    tools.mkdir()
    (tools / present).write_text("#!/bin/sh\n")
    (tools / present).chmod(0o755)
    monkeypatch.setenv("PATH", str(tools))
    assert missing_tools() == [missing]
    with pytest.raises(KafkaServerError, match=missing):
        KafkaServer(tmp_path / "home", tmp_path / "jars").start()


def test_failing_maven_leaves_no_incomplete_broker(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    maven = tmp_path / "mvn"
    maven.write_text("#!/bin/sh\necho 'no such artifact'\nexit 1\n")
    maven.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    with pytest.raises(KafkaServerError, match="no such artifact"):
        ensure_jars(tmp_path / "jars")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["mvn"]


def test_version_is_read_from_the_pom() -> None:
    assert int(kafka_version().split(".")[0]) >= 4


async def topic_on(bootstrap_servers: str, copies: int = 1) -> str:
    """Create a topic of one partition."""
    name = f"t-{uuid.uuid4().hex}"
    admin = AIOKafkaAdminClient(bootstrap_servers=bootstrap_servers)
    await admin.start()
    await admin.create_topics([NewTopic(name, 1, copies)])
    await admin.close()
    return name


@asynccontextmanager
async def producing(bootstrap_servers: str, **options: object) -> AsyncIterator[AIOKafkaProducer]:
    producer = AIOKafkaProducer(bootstrap_servers=bootstrap_servers, acks="all", **options)
    await producer.start()
    try:
        yield producer
    finally:
        await producer.stop()


async def write_one(bootstrap_servers: str, topic: str) -> None:
    """Write a record; try again while a leader that does not respond is still used."""
    async with asyncio.timeout(TIMEOUT_S):
        while True:
            try:
                async with producing(bootstrap_servers, request_timeout_ms=2_000) as producer:
                    await producer.send_and_wait(topic, b"one")
                    return
            except KafkaError:
                await asyncio.sleep(0.1)


@pytest.mark.integration
async def test_cluster_accepts_writes_while_a_node_is_killed_or_frozen(kafka_cluster: KafkaCluster) -> None:
    assert kafka_cluster.numbers == [1, 2, 3]
    topic = await topic_on(kafka_cluster.bootstrap_servers, 3)
    killed, frozen = kafka_cluster.node(2), kafka_cluster.node(3)
    await asyncio.to_thread(killed.kill)
    assert killed.pid is None
    await write_one(kafka_cluster.bootstrap_servers, topic)
    await asyncio.to_thread(killed.start)
    await asyncio.to_thread(kafka_cluster.wait_until_whole, TIMEOUT_S)
    frozen.freeze()
    try:
        assert not await asyncio.to_thread(frozen.is_serving)
        await write_one(kafka_cluster.bootstrap_servers, topic)
    finally:
        frozen.thaw()
    await asyncio.to_thread(kafka_cluster.wait_until_whole, TIMEOUT_S)
    assert nodes_seen(killed.bootstrap_servers) == 3


def test_nodes_of_a_cluster_share_identity_and_voters(tmp_path: Path) -> None:
    homes = [tmp_path / f"node-{number}" for number in (1, 2, 3)]
    write_configs(homes)
    settings = [dict(line.split("=", 1) for line in (home / "server.properties").open()) for home in homes]
    assert len({each["controller.quorum.voters"] for each in settings}) == 1
    assert [each["node.id"].strip() for each in settings] == ["1", "2", "3"]
    assert {each["min.insync.replicas"].strip() for each in settings} == {"2"}
    assert len({(home / "cluster.id").read_text() for home in homes}) == 1
    before = [(home / "server.properties").read_text() for home in homes]
    write_configs(homes)
    assert [(home / "server.properties").read_text() for home in homes] == before


@pytest.mark.integration
@pytest.mark.parametrize("protocol", ["SASL_PLAINTEXT", "SASL_SSL"])
async def test_scram_user_writes_only_with_the_right_to(secured_kafka: KafkaServer, protocol: str) -> None:
    assert secured_kafka.security is not None
    topic = await topic_on(secured_kafka.bootstrap_servers)
    authority = secured_kafka.security.certificates(secured_kafka.home).authority
    options = {
        "security_protocol": protocol,
        "sasl_mechanism": "SCRAM-SHA-512",
        "sasl_plain_username": "poor",
        "sasl_plain_password": SECURED_USERS["poor"],
        "ssl_context": create_ssl_context(cafile=authority) if protocol == "SASL_SSL" else None,
    }
    async with (
        Acls(secured_kafka.bootstrap_servers) as acls,
        producing(secured_kafka.address(protocol), **options) as p,
    ):
        with pytest.raises(TopicAuthorizationFailedError):
            await p.send_and_wait(topic, b"refused")
        await acls.allow("poor", Operation.WRITE, Resource.TOPIC, topic)
        await until_taken(p, topic)
        assert await acls.revoke("poor", Operation.WRITE, Resource.TOPIC, topic) == 1


@pytest.mark.integration
async def test_client_certificate_names_the_user(secured_kafka: KafkaServer) -> None:
    assert secured_kafka.security is not None
    topic = await topic_on(secured_kafka.bootstrap_servers)
    pair = secured_kafka.security.certificates(secured_kafka.home).client("drone")
    nameless = create_ssl_context(cafile=pair.authority)
    named = create_ssl_context(cafile=pair.authority, certfile=pair.certificate, keyfile=pair.key)
    with pytest.raises((KafkaError, ssl.SSLError)):
        async with producing(secured_kafka.address("MTLS"), security_protocol="SSL", ssl_context=nameless):
            pass
    async with Acls(secured_kafka.bootstrap_servers) as acls:
        await acls.allow("drone", Operation.WRITE, Resource.TOPIC, topic)
    async with producing(secured_kafka.address("MTLS"), security_protocol="SSL", ssl_context=named) as producer:
        await until_taken(producer, topic)
    async with producing(secured_kafka.address("SSL"), security_protocol="SSL", ssl_context=nameless) as producer:
        await producer.send_and_wait(topic, b"by the super user")


async def until_taken(producer: AIOKafkaProducer, topic: str) -> None:
    """Write when the broker has applied the access list."""
    async with asyncio.timeout(TIMEOUT_S):
        while True:
            try:
                await producer.send_and_wait(topic, b"taken")
                return
            except TopicAuthorizationFailedError:
                await asyncio.sleep(0.05)


@pytest.mark.integration
async def test_password_of_a_scram_user_is_changed_while_the_broker_runs(secured_kafka: KafkaServer) -> None:
    await asyncio.to_thread(secured_kafka.set_password, "rotating", "second-secret")
    options = {"security_protocol": "SASL_PLAINTEXT", "sasl_mechanism": "SCRAM-SHA-256"}
    address = secured_kafka.address("SASL_PLAINTEXT")
    async with producing(address, **options, sasl_plain_username="rotating", sasl_plain_password="second-secret"):
        pass
    with pytest.raises(KafkaError):
        async with producing(address, **options, sasl_plain_username="rotating", sasl_plain_password="first-secret"):
            pass
