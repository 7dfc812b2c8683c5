"""The Kafka admin: brings topics in line with their declarations, and tells how far behind a group is."""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Mapping

from aiokafka import errors as kafka
from aiokafka.admin import NewTopic
from aiokafka.admin.config_resource import ConfigResource, ConfigResourceType

from infra.broker.kafka.consumer import group_lag
from infra.broker.kafka.link import Link, pauses
from infra.broker.kafka.offsets import Offsets
from infra.broker.port import TopicDifference, TopicPartition
from infra.errors import TopicMismatchError
from schemas.topics import TopicSpec

_SET_ON_TOPIC = 1
"""DescribeConfigs' source of a setting that was set on the topic itself."""
_IN_TOPICS_YAML = {
    "cleanup.policy": ("cleanup", 0),
    "retention.ms": ("retention_s", 1000),
    "max.message.bytes": ("max_message_bytes", 1),
    "min.insync.replicas": ("min_insync_replicas", 1),
    "segment.ms": ("segment_s", 1000),
}
"""Kafka's settings of a topic by their name in topics.yaml, and how many of Kafka's units make one of ours."""
_ALREADY_EXISTS = kafka.TopicAlreadyExistsError.errno


class KafkaAdmin:
    """Implements :class:`infra.broker.port.Admin`."""

    def __init__(self, link: Link) -> None:
        self._link = link
        self._offsets = Offsets(link)

    async def connect(self) -> None:
        """Connect now. Raises BrokerUnavailableError or SettingsError."""
        await self._link.ask("connecting an admin", self._offsets.admin)

    async def check(self, specs: Collection[TopicSpec]) -> list[TopicDifference]:
        """See the port."""
        layouts = await self._link.ask("listing topics", self._layouts)
        present = [spec.name for spec in specs if spec.name in layouts]
        configs = await self._configs(present)
        differences = []
        for spec in specs:
            if spec.name not in layouts:
                differences.append(TopicDifference(spec.name, "topic", "present", "absent", fixable=True))
                continue
            partitions, replication = layouts[spec.name]
            # Another partition count moves keys to other partitions, and with it breaks their order.
            fixed = {
                "partitions": (spec.partitions, partitions),
                "replication": (self._replication(spec), replication),
            }
            differences += [
                TopicDifference(spec.name, what, str(declared), str(found), fixable=False)
                for what, (declared, found) in fixed.items()
                if declared != found
            ]
            differences += self._compare(spec, configs[spec.name][0])
        return differences

    async def apply(self, specs: Collection[TopicSpec]) -> list[TopicDifference]:
        """See the port; what can be mended is mended also when it raises for the rest."""
        differences = await self.check(specs)
        absent = {found.topic for found in differences if found.what == "topic"}
        altered = {found.topic for found in differences if found.fixable} - absent
        await self._create([spec for spec in specs if spec.name in absent])
        await self._alter([spec for spec in specs if spec.name in altered])
        rest = [found for found in differences if not found.fixable]
        if rest:
            told = "; ".join(f"{one.topic}: {one.what} {one.declared} declared, {one.found} found" for one in rest)
            raise TopicMismatchError(
                f"{self._link.where} cannot be brought in line without losing order or data: {told}; declare what is "
                "there, or move to new topics"
            )
        return differences

    async def group_lag(self, group: str, topics: Collection[str]) -> Mapping[TopicPartition, int]:
        """See the port. Raises TopicMismatchError for an unknown topic."""
        counts = await self._offsets.partition_counts(topics)
        sources = [TopicPartition(topic, number) for topic, count in counts.items() for number in range(count)]
        return await group_lag(self._offsets, group, sources)

    async def close(self) -> None:
        """See the port."""
        await self._offsets.close()

    def _replication(self, spec: TopicSpec) -> int:
        return self._link.settings.replication or spec.replication

    def _compare(self, spec: TopicSpec, effective: Mapping[str, str]) -> list[TopicDifference]:
        """Which settings differ, in the words and units of topics.yaml."""
        differences = []
        for setting, declared in self._declared(spec).items():
            what, scale = _IN_TOPICS_YAML[setting]
            found = effective.get(setting, "unset")
            if found != declared:
                ours, theirs = (str(int(value) // scale) if scale else value for value in (declared, found))
                differences.append(TopicDifference(spec.name, what, ours, theirs, fixable=True))
        return differences

    def _declared(self, spec: TopicSpec) -> dict[str, str]:
        """``spec`` in Kafka's settings; fewer replicas than declared cannot be asked to be more in sync."""
        declared = {
            "cleanup.policy": spec.cleanup,
            "retention.ms": str(1000 * spec.retention_s),
            "max.message.bytes": str(spec.max_message_bytes),
            "min.insync.replicas": str(min(spec.min_insync_replicas, self._replication(spec))),
        }
        if spec.segment_s is not None:
            declared["segment.ms"] = str(1000 * spec.segment_s)
        return declared

    async def _layouts(self) -> Mapping[str, tuple[int, int]]:
        """Per topic its partition count and the replicas of its first partition."""
        listed = await (await self._offsets.admin()).describe_topics()
        return {
            topic["topic"]: (len(topic["partitions"]), len(topic["partitions"][0]["replicas"]))
            for topic in listed
            if topic["error_code"] == 0
        }

    async def _configs(self, topics: Collection[str]) -> Mapping[str, tuple[dict[str, str], dict[str, str]]]:
        """Per topic the settings in effect, and those of them that were set on the topic itself."""

        async def call() -> Mapping[str, tuple[dict[str, str], dict[str, str]]]:
            admin = await self._offsets.admin()
            answers = await admin.describe_configs([ConfigResource(ConfigResourceType.TOPIC, name) for name in topics])
            found = {}
            for answer in answers:
                for error_code, message, _, topic, entries in answer.resources:
                    _raise_for(error_code, f"{topic}: {message}")
                    effective = {entry[0]: entry[1] for entry in entries}
                    own = {entry[0]: entry[1] for entry in entries if entry[3] == _SET_ON_TOPIC}
                    found[topic] = effective, own
            return found

        return await self._link.ask("reading topic settings", call) if topics else {}

    async def _create(self, specs: Collection[TopicSpec]) -> None:
        async def call() -> None:
            wanted = [
                NewTopic(s.name, s.partitions, self._replication(s), topic_configs=self._declared(s)) for s in specs
            ]
            answer = await (await self._offsets.admin()).create_topics(wanted)
            for topic, error_code, message in answer.topic_errors:
                if error_code != _ALREADY_EXISTS:
                    _raise_for(error_code, f"{topic}: {message}")

        if not specs:
            return
        await self._link.ask(f"creating {', '.join(spec.name for spec in specs)}", call)
        await self._link.ask("waiting for the new topics", lambda: self._await_topics(specs))

    async def _await_topics(self, specs: Collection[TopicSpec]) -> None:
        """Kafka acknowledges topics a moment before its nodes know them."""
        admin = await self._offsets.admin()
        for _ in pauses():
            listed = {topic["topic"]: topic for topic in await admin.describe_topics()}
            partitions = [part for spec in specs for part in listed.get(spec.name, {"partitions": ()})["partitions"]]
            if len(partitions) >= sum(spec.partitions for spec in specs) and all(p["leader"] >= 0 for p in partitions):
                return
            await asyncio.sleep(0.05)

    async def _alter(self, specs: Collection[TopicSpec]) -> None:
        """Set what is declared. AlterConfigs replaces a topic's settings as a whole, so its other ones go along."""
        current = await self._configs([spec.name for spec in specs])

        async def call() -> None:
            resources = [
                ConfigResource(ConfigResourceType.TOPIC, spec.name, {**current[spec.name][1], **self._declared(spec)})
                for spec in specs
            ]
            for answer in await (await self._offsets.admin()).alter_configs(resources):
                for error_code, message, _, topic in answer.resources:
                    _raise_for(error_code, f"{topic}: {message}")

        if specs:
            await self._link.ask(f"altering {', '.join(spec.name for spec in specs)}", call)


def _raise_for(error_code: int, message: str) -> None:
    if error_code:
        raise kafka.for_code(error_code)(message)
