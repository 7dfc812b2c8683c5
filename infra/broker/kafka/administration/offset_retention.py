"""Checks that Kafka keeps the offsets of a stopped group as long as the records it has not read yet."""

from __future__ import annotations

from collections.abc import Collection, Mapping

from aiokafka.admin.config_resource import ConfigResource, ConfigResourceType

from infra.broker.kafka.connection.error_translation import raise_for
from infra.broker.kafka.connection.link import Link
from infra.broker.kafka.queries.cluster_queries import ClusterQueries
from infra.broker.port import TopicDifference
from infra.errors import RefusedError
from schemas.topics import FRAMES_DEAD, SINKS_DEAD, TopicSpec

SETTING = "offsets.retention.minutes"
_READ_WITHOUT_GROUP = (FRAMES_DEAD, SINKS_DEAD)


async def check_offset_retention(
    link: Link, queries: ClusterQueries, specs: Collection[TopicSpec]
) -> list[TopicDifference]:
    """Return a difference when a broker deletes the offsets of a group before the topics delete their records.

    Such a group would start at the earliest record after a long stop, and process everything a second time.
    """
    longest = max(
        (spec for spec in specs if spec.cleanup == "delete" and spec.name not in _READ_WITHOUT_GROUP),
        key=lambda spec: spec.retention_s,
        default=None,
    )
    if longest is None:
        return []
    needed = -(-longest.retention_s // 60)
    try:
        found = await _minutes(link, queries)
    except RefusedError as error:
        advice = f"could not be read ({error}); give this user the right DescribeConfigs on the cluster"
        return [TopicDifference("(brokers)", SETTING, f"at least {needed}", "unknown", fixable=False, advice=advice)]
    short = sorted({minutes for minutes in found.values() if minutes < needed})
    if not short:
        return []
    advice = (
        f"set {SETTING}={needed} or more in server.properties of every broker and restart them: a group that is "
        f"stopped for longer than {short[0]} minutes loses its offsets, while {longest.name} keeps its records for "
        f"{needed} minutes; it would then begin at the earliest record and process everything again"
    )
    return [TopicDifference("(brokers)", SETTING, f"at least {needed}", str(short[0]), fixable=False, advice=advice)]


async def _minutes(link: Link, queries: ClusterQueries) -> Mapping[int, int]:
    """Return the setting of every node, by its id."""

    async def call() -> Mapping[int, int]:
        admin = await queries.admin()
        nodes = [broker["node_id"] for broker in (await admin.describe_cluster())["brokers"]]
        wanted = [ConfigResource(ConfigResourceType.BROKER, str(node), {SETTING: None}) for node in nodes]
        found = {}
        for response in await admin.describe_configs(wanted):
            for error_code, message, _, node, entries in response.resources:
                raise_for(error_code, f"broker {node}: {message}")
                found.update({int(node): int(entry[1]) for entry in entries if entry[0] == SETTING})
        return found

    return await link.ask(f"asking the brokers for {SETTING}", call)
