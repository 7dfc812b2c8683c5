"""Fetches the broker's jars with Maven, as ``pom.xml`` names them, into a folder that is kept."""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path

from defusedxml import ElementTree

from infra.deploy.kafka.errors import KafkaServerError
from infra.deploy.kafka.files import CACHE_OPTION, absolute_path, explained_errors
from infra.deploy.kafka.programs import run_to_end

_POM = Path(__file__).with_name("pom.xml")
_VERSION = "{http://maven.apache.org/POM/4.0.0}properties/{http://maven.apache.org/POM/4.0.0}kafka.version"
_FETCH_TIMEOUT_S = 600


def kafka_version() -> str:
    """Return the version of Kafka in ``pom.xml``."""
    project = ElementTree.parse(_POM).getroot()
    found = None if project is None else project.findtext(_VERSION)
    if not found:
        raise KafkaServerError(f"{_POM}: has no property kafka.version; restore the file")
    return found


def missing_tools() -> list[str]:
    """Return which of the programs that a local broker needs are not on the PATH."""
    return [tool for tool in ("java", "mvn") if shutil.which(tool) is None]


def java() -> str:
    """Return the path of Java. Raises KafkaServerError when it is not installed."""
    found = shutil.which("java")
    if found is None:
        raise KafkaServerError("java: not found on the PATH; Kafka needs a Java runtime, version 17 or newer")
    return found


def ensure_jars(cache: Path | None = None) -> Path:
    """Return the folder with the broker's jars; fetch them on first use.

    ``cache`` is the folder; by default ``~/.cache/standgale/kafka-<version>``. It is created complete or not at all, so
    two processes may fetch at once. Raises KafkaServerError when Maven is missing or fails.
    """
    target = absolute_path(cache or Path.home() / ".cache" / "standgale" / f"kafka-{kafka_version()}", CACHE_OPTION)
    with explained_errors(target, CACHE_OPTION):
        return _jars_in(target)


def _jars_in(target: Path) -> Path:
    """Return the folder ``target`` with the jars; fetch them when it has none."""
    if target.exists() and not target.is_dir():
        raise KafkaServerError(f"{target}: is not a folder; choose a different {CACHE_OPTION}")
    if any(target.glob("kafka_2.13-*.jar")):
        return target
    maven = shutil.which("mvn")
    if maven is None:
        raise KafkaServerError(
            f"mvn: not found on the PATH, and {target} has no broker yet; install Apache Maven (it is needed once)"
        )
    target.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=target.parent, prefix=f"{target.name}-") as scratch:
        fetched = Path(scratch) / "jars"
        _copy_jars(maven, fetched)
        try:
            fetched.rename(target)
        except OSError as error:
            # If another process was faster, its folder is used; anything else is an error.
            if not any(target.glob("kafka_2.13-*.jar")):
                raise KafkaServerError(f"{target}: cannot be created ({error}); empty or remove it") from error
    return target


def _copy_jars(maven: str, folder: Path) -> None:
    """Run Maven, which resolves ``pom.xml`` and copies every jar into ``folder``."""
    command = [maven, "-B", "-q", "-f", str(_POM), "dependency:copy-dependencies", f"-DoutputDirectory={folder}"]
    advice = "check the network and Maven's settings.xml"
    run_to_end(command, "mvn: fetching Kafka's jars", _FETCH_TIMEOUT_S, advice=advice)
