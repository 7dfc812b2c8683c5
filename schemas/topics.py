"""Reads and checks topic declarations from ``topics.yaml``, the one place where topics are declared."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import pairwise
from pathlib import Path
from typing import Annotated, Literal, Self

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from schemas.errors import TopicsError
from schemas.events import EVENTS
from schemas.yaml_text import parse_yaml, yaml_fault

FRAMES_LIVE = "frames.live"
FRAMES_JOBS = "frames.jobs"
FRAMES_BACKFILL = "frames.backfill"
FRAME_TOPICS = (FRAMES_LIVE, FRAMES_JOBS, FRAMES_BACKFILL)
"""In order of priority."""
DETECTIONS = "detections"
FRAMES_DEAD = "frames.dead"
SINKS_DEAD = "sinks.dead"
REDRIVE = "redrive"
JOBS = "jobs"
STATS = "stats"
MODELS = "models"
ARCHIVE_COMMITS = "archive.commits"
PROBES = "probes"

_NAME = r"^[a-z][a-z0-9._-]{0,248}$"


class _Declared(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class _Defaults(_Declared):
    replication: Annotated[int, Field(ge=1)] = 3
    min_insync_replicas: Annotated[int, Field(ge=1)] = 2
    retention_s: Annotated[int, Field(ge=60)] = 604_800
    max_message_bytes: Annotated[int, Field(ge=1024)] = 1_048_576
    cleanup: Literal["delete", "compact"] = "delete"


class _TopicSet(_Declared):
    partitions: Annotated[int, Field(ge=1, le=10_000)]
    key: str
    grown_from: Annotated[int, Field(ge=1)] | list[Annotated[int, Field(ge=1)]] | None = None

    @property
    def listed_counts(self) -> list[int]:
        """Return the counts before each growth as the file lists them, the oldest first."""
        if self.grown_from is None:
            return []
        return self.grown_from if isinstance(self.grown_from, list) else [self.grown_from]

    @model_validator(mode="after")
    def _grows_whole(self) -> Self:
        """Raise ValueError for a growth after which a key's new partition does not follow from its former one."""
        counts = [*self.listed_counts, self.partitions]
        for former, later in pairwise(counts):
            if later <= former or later % former:
                what = "partitions" if later == counts[-1] else "the next one in grown_from"
                raise ValueError(
                    f"grown_from has {former} and {what} is {later}; it must be larger, and a whole multiple (for "
                    f"example {2 * former})"
                )
        return self

    def for_topics(self) -> dict[str, object]:
        """Return the fields that each topic of the set takes from it."""
        counts = self.listed_counts
        return {
            **self.model_dump(),
            "grown_from": counts[-1] if counts else None,
            "grown_before": tuple(counts[:-1]),
        }


class _Topic(_Declared):
    group: str
    events: Annotated[list[str], Field(min_length=1)]
    about: Annotated[str, Field(min_length=1)]
    replication: Annotated[int, Field(ge=1)] | None = None
    min_insync_replicas: Annotated[int, Field(ge=1)] | None = None
    retention_s: Annotated[int, Field(ge=60)] | None = None
    max_message_bytes: Annotated[int, Field(ge=1024)] | None = None
    cleanup: Literal["delete", "compact"] | None = None
    segment_s: Annotated[int, Field(ge=60)] | None = None


class _Document(_Declared):
    version: Literal[1]
    defaults: _Defaults = _Defaults()
    groups: dict[Annotated[str, Field(pattern=r"^[a-z][a-z0-9_-]*$")], _TopicSet]
    topics: dict[Annotated[str, Field(pattern=_NAME)], _Topic]


class TopicSpec(BaseModel):
    """Describes one topic as it must be on every broker. Topics of one topic set are co-partitioned."""

    model_config = ConfigDict(frozen=True)

    name: str
    group: str
    """The name of its topic set; the key of topics.yaml is ``groups``"""
    partitions: int
    key: str
    events: tuple[str, ...]
    about: str
    replication: int
    min_insync_replicas: int
    retention_s: int
    max_message_bytes: int
    cleanup: Literal["delete", "compact"]
    segment_s: int | None = None
    """Kafka compacts records that are older; None: the cluster decides"""
    grown_from: int | None = None
    """The partition count before the last growth; a key of partition ``n`` was in ``n % grown_from`` then"""
    grown_before: tuple[int, ...] = ()
    """The counts before earlier growths, the oldest first"""

    @property
    def former_counts(self) -> tuple[int, ...]:
        """Return the partition counts before each growth, the newest first."""
        return () if self.grown_from is None else (self.grown_from, *reversed(self.grown_before))


def default_path() -> Path:
    """Return the path of topics.yaml: next to the packages in a checkout, inside ``schemas`` in an installed wheel."""
    here = Path(__file__).resolve().parent
    checkout = here.parent / "topics.yaml"
    return checkout if checkout.is_file() else here / "topics.yaml"


def load_topics(path: Path | None = None) -> dict[str, TopicSpec]:
    """Return all topics by name. Raises TopicsError that names the entry when the file is missing or wrong."""
    source = path or default_path()
    try:
        raw = parse_yaml(source.read_text(encoding="utf-8"))
        document = _Document.model_validate(raw)
    except OSError as error:
        raise TopicsError(f"{source}: cannot be read ({error.strerror}); set STANDGALE_TOPICS_FILE") from error
    except UnicodeDecodeError as error:
        raise TopicsError(f"{source}: not YAML ({error})") from error
    except yaml.YAMLError as error:
        raise TopicsError(f"{source}: not YAML ({yaml_fault(error)})") from error
    except ValidationError as error:
        first = error.errors()[0]
        raise TopicsError(f"{source}: {'.'.join(map(str, first['loc']))}: {first['msg']}") from error
    topics = {name: _spec(source, document, name, topic) for name, topic in document.topics.items()}
    _check_detector_topics(source, topics)
    _check_models_topic(source, topics[MODELS])
    return topics


def _spec(source: Path, document: _Document, name: str, topic: _Topic) -> TopicSpec:
    topic_set = document.groups.get(topic.group)
    if topic_set is None:
        raise TopicsError(
            f"{source}: topics.{name}.group: {topic.group!r} is not one of groups {list(document.groups)}"
        )
    known = {event.event_name for event in EVENTS}
    unknown = [event for event in topic.events if event not in known]
    if unknown:
        raise TopicsError(f"{source}: topics.{name}.events: {unknown} unknown; there are {sorted(known)}")
    own = topic.model_dump(exclude_none=True)
    return TopicSpec(**{**document.defaults.model_dump(), **own, "name": name, **topic_set.for_topics()})


def _check_detector_topics(source: Path, topics: Mapping[str, TopicSpec]) -> None:
    """Raise TopicsError when frame topics and ``detections`` differ in key or partitions.

    The duplicate window of a partition reads the partition of ``detections`` that has the same number.
    """
    needed = (*FRAME_TOPICS, DETECTIONS, FRAMES_DEAD, SINKS_DEAD, REDRIVE, JOBS, STATS, MODELS, ARCHIVE_COMMITS, PROBES)
    absent = [name for name in needed if name not in topics]
    if absent:
        raise TopicsError(f"{source}: topics {absent} are missing; Standgale cannot work without them")
    sets = {topics[name].group for name in (*FRAME_TOPICS, DETECTIONS)}
    if len(sets) > 1:
        raise TopicsError(
            f"{source}: {', '.join((*FRAME_TOPICS, DETECTIONS))} must have one `group` (found {sorted(sets)}), "
            "because a detector writes to the partition number that it reads from"
        )


def _check_models_topic(source: Path, spec: TopicSpec) -> None:
    """Raise TopicsError unless the models topic is compacted and has one partition, as workers read all of it."""
    if (spec.partitions, spec.cleanup) != (1, "compact"):
        raise TopicsError(
            f"{source}: topics.{MODELS}: has {spec.partitions} partitions and cleanup {spec.cleanup!r}; it must have 1 "
            "and 'compact', because each worker reads all of it"
        )
