"""The gateway on a real Kafka: a topic is deleted, a right is missing, and clients wait for detections."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest
from aiokafka.admin import AIOKafkaAdminClient

from infra.broker.kafka.adapter import KafkaBroker
from infra.deploy.kafka import KafkaServer
from infra.deploy.kafka.acls import Acls, Operation, Resource
from infra.errors import ImageCorruptError
from ingest.limits.lag import LagLimits
from ingest.limits.lag_watch import LagWatch
from ingest.limits.settings import LimitsSettings
from ingest.settings import GatewaySettings
from schemas.topics import DETECTIONS, FRAME_TOPICS, FRAMES_DEAD, FRAMES_LIVE, PROBES, load_topics
from standgale.testing.waiting import until
from tests.harnesses.brokers import harness_of
from tests.harnesses.stand_in_detector import detecting
from tests.servers.gateway import WHEN, Gateway, GatewayResponse, jpeg, running
from tests.servers.gateway_checks import assert_error
from tests.servers.kafka import kafka_settings, scram

pytestmark = pytest.mark.integration

TIMEOUT_S = 60.0
DETECT = "/api/v1/detect"


async def test_gateway_follows_topic_deleted_and_created_again(kafka_server: KafkaServer, tmp_path: Path) -> None:
    declared = {name: spec for name, spec in load_topics().items() if name in (FRAMES_LIVE, PROBES)}
    broker = KafkaBroker(kafka_settings(kafka_server, request_timeout_s=3), declared)
    admin = await broker.admin()
    deleting = AIOKafkaAdminClient(bootstrap_servers=kafka_server.bootstrap_servers)
    await deleting.start()
    try:
        await admin.apply(declared.values())
        quick = GatewaySettings(publish_timeout_s=3, probe_interval_s=0.2, recovery_s=0.5)
        async with running(tmp_path, quick, broker=broker, ahead_s=None, probed=True) as gateway:
            report = gateway.health.report
            await until(lambda: report().ready)
            assert (await gateway.send()).status == 202

            await deleting.delete_topics([FRAMES_LIVE])
            await until(lambda: "TOPIC_MISMATCH" in (report().parts["broker"].reason or ""))
            response = await gateway.send(jpeg(seed=2))
            assert response.status == 503
            assert response.json["error_code"] in ("TOPIC_MISMATCH", "BROKER_UNAVAILABLE")

            await admin.apply(declared.values())
            await until(lambda: report().ready)
            assert (await gateway.send(jpeg(seed=2))).status == 202
            assert report().ready
    finally:
        await deleting.close()
        await admin.close()


async def test_revoked_write_right_is_503_and_not_ready_until_granted(
    secured_kafka: KafkaServer, tmp_path: Path
) -> None:
    """Probes, which go to another topic, pass all the while."""
    declared = {name: spec for name, spec in load_topics().items() if name in (FRAMES_LIVE, PROBES)}
    user = "poor"
    operator = KafkaBroker(kafka_settings(secured_kafka), declared)
    admin = await operator.admin()
    await admin.apply(declared.values())
    await admin.close()
    await operator.close()
    quick = GatewaySettings(publish_timeout_s=5, probe_interval_s=0.2, recovery_s=60)
    async with Acls(secured_kafka.bootstrap_servers) as acls:
        for topic in declared:
            for operation in (Operation.DESCRIBE, Operation.READ, Operation.WRITE):
                await acls.allow(user, operation, Resource.TOPIC, topic)
        try:
            settings = kafka_settings(secured_kafka, **scram(secured_kafka, user), request_timeout_s=3)
            broker = KafkaBroker(settings, declared)
            async with running(tmp_path, quick, broker=broker, ahead_s=None, probed=True) as gateway:
                report = gateway.health.report
                await until(lambda: report().ready)
                assert (await gateway.send()).status == 202
                await acls.revoke(user, Operation.WRITE, Resource.TOPIC, FRAMES_LIVE)
                response = await wait_for_response(gateway, accepted=False)
                assert (response.status, response.json["error_code"]) == (503, "REFUSED")
                assert "Retry-After" in response.headers
                assert user not in response.body.decode()
                assert report().parts["broker"].reason == "REFUSED"
                await asyncio.sleep(0.5)
                assert report().parts["broker"].reason == "REFUSED"
                await acls.allow(user, Operation.WRITE, Resource.TOPIC, FRAMES_LIVE)
                await wait_for_response(gateway, accepted=True)
                assert report().ready
        finally:
            for topic in declared:
                for operation in (Operation.DESCRIBE, Operation.READ, Operation.WRITE):
                    await acls.revoke(user, operation, Resource.TOPIC, topic)


async def test_detect_returns_committed_detections_and_finds_them_again(
    kafka_server: KafkaServer, tmp_path: Path
) -> None:
    names = (*FRAME_TOPICS, DETECTIONS, FRAMES_DEAD, PROBES)
    declared = {name: spec for name, spec in load_topics().items() if name in names}
    harness = harness_of(kafka_settings(kafka_server), tmp_path)
    # Other tests use these names on this server too, with other partitions.
    await harness.remove(*declared.values())
    broker = KafkaBroker(kafka_settings(kafka_server), declared)
    admin = await broker.admin()
    await admin.apply(declared.values())
    await admin.close()
    settings = GatewaySettings(answer_timeout_s=30.0)
    limits = LimitsSettings(max_lag_frames=1, lag_interval_s=0.2)
    lag = LagLimits(limits)
    async with running(tmp_path, settings, broker=broker, ahead_s=None, limits=limits, lag=lag) as gateway:
        watch, stop = LagWatch(broker, "detectors", lag, limits.lag_interval_s), asyncio.Event()
        watching = asyncio.create_task(watch.run(stop, gateway.health.part("lag")))
        waiting = {"captured_at": WHEN, "original_filename": "good.jpg"}
        assert (await gateway.send(params=waiting)).status == 202
        await until(lambda: lag.refusing() > 0)
        behind = await gateway.send(params=waiting)
        assert (behind.status, behind.json["error_code"]) == (503, "DETECTORS_BEHIND")
        async with detecting(broker):
            await until(lambda: lag.refusing() == 0)
        stop.set()
        await watching
        decide = {"good.jpg": True, "bad.jpg": ImageCorruptError("ends early")}
        async with detecting(broker, lambda frame: decide[frame.original_filename or ""]):
            good = {"timestamp": WHEN, "original_filename": "good.jpg"}
            first = await gateway.send(path=DETECT, params=good)
            assert first.status == 200, first.body
            again = await gateway.send(path=DETECT, params=good)
            assert again.json["detections"] == first.json["detections"]
            bad = await gateway.send(jpeg(seed=4), path=DETECT, params=good | {"original_filename": "bad.jpg"})
            assert_error(bad, 422, "IMAGE_CORRUPT")
    await harness.remove(*declared.values())
    await harness.close()


async def wait_for_response(gateway: Gateway, *, accepted: bool) -> GatewayResponse:
    """Send until the response is 202, or is not: the broker applies its access list after a moment."""
    async with asyncio.timeout(TIMEOUT_S):
        while ((response := await gateway.send()).status == 202) != accepted:  # noqa: ASYNC110 (each response is a new request)
            await asyncio.sleep(0.05)
    return response
