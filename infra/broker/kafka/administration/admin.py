"""Checks topics on Kafka against their declarations, creates and changes them, and lists and deletes groups."""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Mapping, Sequence

from aiokafka import errors as kafka
from aiokafka.admin import NewPartitions, NewTopic
from aiokafka.admin.config_resource import ConfigResource, ConfigResourceType
from aiokafka.protocol.admin import AlterConfigsRequest

from infra.broker import growth
from infra.broker.kafka.administration.groups import Groups
from infra.broker.kafka.administration.offset_retention import check_offset_retention
from infra.broker.kafka.administration.topic_settings import declared_settings, differing_settings
from infra.broker.kafka.connection.error_translation import raise_for
from infra.broker.kafka.connection.link import Link, pauses
from infra.broker.kafka.queries.cluster_queries import ClusterQueries, group_lag
from infra.broker.kafka.queries.committed import all_partitions
from infra.broker.port import GroupState, TopicDifference, TopicPartition
from infra.texts import counted
from schemas.topics import TopicSpec

_SET_ON_TOPIC = 1
"""DescribeConfigs' source of a setting that was set on the topic itself."""
_ALREADY_EXISTS = kafka.TopicAlreadyExistsError.errno


class KafkaAdmin:
    """Implements :class:`infra.broker.port.Admin`."""

    def __init__(self, link: Link) -> None:
        self._link = link
        self._queries = ClusterQueries(link)
        self._groups = Groups(link, self._queries)

    async def connect(self) -> None:
        """Connect now. Raises BrokerUnavailableError or RefusedError."""
        await self._link.ask("connecting an admin", self._queries.admin)

    async def check(self, specs: Collection[TopicSpec]) -> list[TopicDifference]:
        """See the port. Reads one setting of the brokers too: how long they keep the offsets of stopped groups."""
        return await self._compare(specs) + await check_offset_retention(self._link, self._queries, specs)

    async def apply(self, specs: Collection[TopicSpec]) -> list[TopicDifference]:
        """See the port. Kafka validates all changes before the first one is made."""
        differences = await self._compare(specs)
        growth.raise_for_differences(differences, self._link.where)
        absent = {found.topic for found in differences if found.what == "topic"}
        growing = {found.topic for found in differences if found.what == "partitions"}
        # Only settings are left: a difference in replicas was refused.
        altered = {found.topic for found in differences if found.what not in ("topic", "partitions")}
        create = [spec for spec in specs if spec.name in absent]
        grow = [spec for spec in specs if spec.name in growing]
        alter = [spec for spec in specs if spec.name in altered]
        current = await self._configs([spec.name for spec in alter])
        for validate_only in (True, False):
            await self._grow(grow, validate_only)
            await self._create(create, validate_only)
            await self._alter(alter, current, validate_only)
        if create or grow:
            await self._link.ask("waiting for the new partitions", lambda: self._await_partitions([*create, *grow]))
        return differences

    async def group_lag(self, group: str, topics: Collection[str]) -> Mapping[TopicPartition, int]:
        """See the port. Raises TopicMismatchError for an unknown topic."""
        counts = await self._queries.partition_counts(topics)
        return await group_lag(self._queries, group, all_partitions(counts))

    async def groups(self) -> Sequence[GroupState]:
        """See the port. For a group without members Kafka does not report when it was last active."""
        layouts, _ = await self._link.ask("listing topics", self._layouts)
        return await self._groups.states({topic: count for topic, (count, _) in layouts.items()})

    async def forget_group(self, name: str) -> None:
        """See the port."""
        await self._groups.delete(name)

    async def close(self) -> None:
        """See the port."""
        await self._groups.close()
        await self._queries.close()

    async def _compare(self, specs: Collection[TopicSpec]) -> list[TopicDifference]:
        layouts, nodes = await self._link.ask("listing topics", self._layouts)
        configs = await self._configs([spec.name for spec in specs if spec.name in layouts])
        counts = {topic: count for topic, (count, _) in layouts.items()}
        lags = await self._groups.lags({spec.name: counts[spec.name] for spec in growth.topics_to_grow(specs, counts)})
        differences = growth.count_differences(specs, counts, lags)
        for spec in specs:
            replication = self._replication(spec)
            if spec.name in layouts:
                _, found = layouts[spec.name]
                seen = str(found)
                differences += differing_settings(spec, replication, configs[spec.name][0])
            else:
                found, seen = min(replication, nodes), counted(nodes, "node")
                differences.append(TopicDifference(spec.name, "topic", "present", "absent", fixable=True))
            if found != replication:
                differences.append(TopicDifference(spec.name, "replication", str(replication), seen, fixable=False))
        return differences

    def _replication(self, spec: TopicSpec) -> int:
        return self._link.settings.replication or spec.replication

    def _declared(self, spec: TopicSpec) -> dict[str, str]:
        return declared_settings(spec, self._replication(spec))

    async def _layouts(self) -> tuple[Mapping[str, tuple[int, int]], int]:
        """Return per topic its partition count and its first partition's replicas, and the number of nodes."""
        admin = await self._queries.admin()
        listed = await admin.describe_topics()
        layouts = {
            topic["topic"]: (len(topic["partitions"]), len(topic["partitions"][0]["replicas"]))
            for topic in listed
            if topic["error_code"] == 0
        }
        return layouts, len((await admin.describe_cluster())["brokers"])

    async def _configs(self, topics: Collection[str]) -> Mapping[str, tuple[dict[str, str], dict[str, str]]]:
        """Return per topic the settings in effect, and those of them that were set on the topic itself."""

        async def call() -> Mapping[str, tuple[dict[str, str], dict[str, str]]]:
            admin = await self._queries.admin()
            resources = [ConfigResource(ConfigResourceType.TOPIC, name) for name in topics]
            found = {}
            for response in await admin.describe_configs(resources):
                for error_code, message, _, topic, entries in response.resources:
                    raise_for(error_code, f"{topic}: {message}")
                    effective = {entry[0]: entry[1] for entry in entries}
                    own = {entry[0]: entry[1] for entry in entries if entry[3] == _SET_ON_TOPIC}
                    found[topic] = effective, own
            return found

        return await self._link.ask("reading topic settings", call) if topics else {}

    async def _grow(self, specs: Collection[TopicSpec], validate_only: bool) -> None:
        async def call() -> None:
            wanted = {spec.name: NewPartitions(spec.partitions) for spec in specs}
            await (await self._queries.admin()).create_partitions(wanted, validate_only=validate_only)

        if specs:
            await self._link.ask(f"adding partitions to {', '.join(spec.name for spec in specs)}", call)

    async def _create(self, specs: Collection[TopicSpec], validate_only: bool) -> None:
        async def call() -> None:
            wanted = [
                NewTopic(s.name, s.partitions, self._replication(s), topic_configs=self._declared(s)) for s in specs
            ]
            response = await (await self._queries.admin()).create_topics(wanted, validate_only=validate_only)
            for topic, error_code, message in response.topic_errors:
                if error_code != _ALREADY_EXISTS:
                    raise_for(error_code, f"{topic}: {message}")

        if specs:
            await self._link.ask(f"creating {', '.join(spec.name for spec in specs)}", call)

    async def _await_partitions(self, specs: Collection[TopicSpec]) -> None:
        """Wait until the nodes know the new partitions, a moment after Kafka has acknowledged them."""
        admin = await self._queries.admin()
        for _ in pauses():
            listed = {topic["topic"]: topic for topic in await admin.describe_topics()}
            partitions = [part for spec in specs for part in listed.get(spec.name, {"partitions": ()})["partitions"]]
            if len(partitions) >= sum(spec.partitions for spec in specs) and all(p["leader"] >= 0 for p in partitions):
                return
            await asyncio.sleep(0.05)

    async def _alter(
        self,
        specs: Collection[TopicSpec],
        current: Mapping[str, tuple[dict[str, str], dict[str, str]]],
        validate_only: bool,
    ) -> None:
        """Set the declared settings. AlterConfigs replaces all settings of a topic, so the others are sent too."""

        async def call() -> None:
            resources = [
                (
                    int(ConfigResourceType.TOPIC),
                    spec.name,
                    list({**current[spec.name][1], **self._declared(spec)}.items()),
                )
                for spec in specs
            ]
            request = AlterConfigsRequest(resources, validate_only)
            response = await (await self._queries.admin())._send_request(request)
            for error_code, message, _, topic in response.resources:
                raise_for(error_code, f"{topic}: {message}")

        if specs:
            await self._link.ask(f"altering {', '.join(spec.name for spec in specs)}", call)
