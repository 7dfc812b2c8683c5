"""The broker's jars: copied by Maven, as ``pom.xml`` names them, into a folder that is kept from run to run."""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path

from defusedxml import ElementTree

from infra.deploy.kafka.errors import KafkaServerError
from infra.deploy.kafka.programs import run_to_end

_POM = Path(__file__).with_name("pom.xml")
_VERSION = "{http://maven.apache.org/POM/4.0.0}properties/{http://maven.apache.org/POM/4.0.0}kafka.version"
_FETCH_TIMEOUT_S = 600


def kafka_version() -> str:
    """The version of Kafka that ``pom.xml`` asks for."""
    project = ElementTree.parse(_POM).getroot()
    found = None if project is None else project.findtext(_VERSION)
    if not found:
        raise KafkaServerError(f"{_POM}: has no property kafka.version; restore the file")
    return found


def missing_tools() -> list[str]:
    """Which of the programs a broker of our own needs are not on the PATH."""
    return [tool for tool in ("java", "mvn") if shutil.which(tool) is None]


def java() -> str:
    """Where Java is. Raises KafkaServerError when it is not installed."""
    found = shutil.which("java")
    if found is None:
        raise KafkaServerError("java: not found on the PATH; Kafka needs a Java runtime, version 17 or newer")
    return found


def ensure_jars(cache: Path | None = None) -> Path:
    """The folder with the broker's jars, fetched on first use.

    ``cache`` is the folder itself; by default ``~/.cache/standgale/kafka-<version>``. It appears complete or not at
    all, so two processes may fetch at once. Raises KafkaServerError when Maven is missing or fails.
    """
    target = cache or Path.home() / ".cache" / "standgale" / f"kafka-{kafka_version()}"
    if any(target.glob("kafka_2.13-*.jar")):
        return target
    maven = shutil.which("mvn")
    if maven is None:
        raise KafkaServerError(
            f"mvn: not found on the PATH, and {target} holds no broker yet; install Apache Maven (it is needed once)"
        )
    target.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=target.parent, prefix=f"{target.name}-") as scratch:
        fetched = Path(scratch) / "jars"
        _copy_jars(maven, fetched)
        try:
            fetched.rename(target)
        except OSError as error:
            # Another process was faster; its folder is as good as ours, and anything else is a real fault.
            if not any(target.glob("kafka_2.13-*.jar")):
                raise KafkaServerError(f"{target}: cannot be put in place ({error}); empty or remove it") from error
    return target


def _copy_jars(maven: str, folder: Path) -> None:
    """Let Maven resolve ``pom.xml`` and copy every jar into ``folder``."""
    command = [maven, "-B", "-q", "-f", str(_POM), "dependency:copy-dependencies", f"-DoutputDirectory={folder}"]
    advice = "check the network and Maven's settings.xml"
    run_to_end(command, "mvn: fetching Kafka's jars", _FETCH_TIMEOUT_S, advice=advice)
