"""Starts real Kafka brokers once per run, and gives each test its folders and sites."""

from __future__ import annotations

from collections.abc import AsyncIterator, Generator, Iterator, Mapping
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from hypothesis import settings as hypothesis_settings

from infra.broker.settings import BrokerSettings
from infra.deploy.kafka import KafkaCluster, KafkaServer, Security
from tests.harnesses.worker_site import WorkerSite
from tests.paths import ROOT
from tests.servers.kafka import SECURED_USERS, kafka_settings, require_kafka_tools

# A deadline per example would measure how busy the machine is, not whether the code is right.
hypothesis_settings.register_profile("tests", deadline=None, print_blob=True)
hypothesis_settings.load_profile("tests")

# Each starts servers, which take seconds and hundreds of megabytes.
_KAFKA = ("kafka_cluster", "secured_kafka", "kafka_server")
_TIERS = ("faults", "integration", "contract")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Keep tests that share a Kafka, and those of a file, in one of pytest-xdist's processes.

    The longest come first, so that no process is left with them at the end.
    """
    groups = {item: _group(item) for item in items}
    items.sort(key=lambda item: (groups[item] not in _KAFKA, *(not _is_in(item, tier) for tier in _TIERS)))
    if items and hasattr(items[0].config, "workerinput"):
        _write_groups(groups)


def _write_groups(groups: Mapping[pytest.Item, str]) -> None:
    """Add ``@`` and the number of its group to the id of each test, by which pytest-xdist groups them.

    It does so itself for marked tests, but version 3.8 writes it to an attribute that pytest 9 no longer reads.
    """
    from _pytest.nodeid import NodeId

    numbers = {group: number for number, group in enumerate(sorted(set(groups.values())))}
    for item, group in groups.items():
        item._id = NodeId.parse(f"{item.nodeid}@{numbers[group]}")


def _group(item: pytest.Item) -> str:
    """Return the group that ``item`` names, the fixture with its Kafka, or its file."""
    named = item.get_closest_marker("xdist_group")
    if named is not None:
        return str(named.args[0])
    fixtures = getattr(item, "fixturenames", ())
    for fixture in _KAFKA:
        if fixture in fixtures:
            return fixture
    # Which broker a test has can also be its parameter.
    parameters = item.callspec.id.split("-") if hasattr(item, "callspec") else ()
    return "kafka_server" if "kafka" in parameters else str(item.path.relative_to(ROOT))


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport() -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Convert the logs of a test to UTF-8, because reports are sent between processes."""
    report = yield
    report.sections = [(name, text.encode("utf-8", "backslashreplace").decode()) for name, text in report.sections]
    return report


def _is_in(item: pytest.Item, tier: str) -> bool:
    return item.path.is_relative_to(ROOT / "tests" / tier)


@pytest.fixture(scope="session")
def kafka_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[KafkaServer]:
    """Starts a broker."""
    require_kafka_tools()
    with KafkaServer(tmp_path_factory.mktemp("kafka")) as server:
        yield server


@pytest.fixture(scope="session")
def kafka_cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[KafkaCluster]:
    """Starts a cluster of three nodes; a test that kills or freezes one starts it again before its end."""
    require_kafka_tools()
    cluster = KafkaCluster(tmp_path_factory.mktemp("kafka-cluster"))
    try:
        cluster.start()
        yield cluster
    finally:
        cluster.kill()  # nodes that end normally wait for each other, which takes seconds


@pytest.fixture(scope="session")
def secured_kafka(tmp_path_factory: pytest.TempPathFactory) -> Iterator[KafkaServer]:
    """Starts a broker with TLS, SCRAM (the users of ``SECURED_USERS``) and access lists."""
    require_kafka_tools("openssl")
    with KafkaServer(tmp_path_factory.mktemp("kafka-secured"), security=Security(SECURED_USERS)) as server:
        yield server


@pytest.fixture(params=["embedded", pytest.param("kafka", marks=pytest.mark.integration)])
def broker_settings(request: pytest.FixtureRequest) -> BrokerSettings:
    """Gives the settings of each broker, one after the other."""
    if request.param == "kafka":
        return kafka_settings(request.getfixturevalue("kafka_server"))
    return BrokerSettings(kind="embedded")


@pytest.fixture
def server_dir() -> Iterator[Path]:
    """Gives a folder for a server that one test starts.

    It is not in pytest's folder: as root the server runs as another user, which may not read there.
    """
    with TemporaryDirectory(prefix="standgale-test-", ignore_cleanup_errors=True) as folder:
        yield Path(folder)


@pytest.fixture
async def site(tmp_path: Path) -> AsyncIterator[WorkerSite]:
    """Opens an embedded broker, a folder of frames and a model in the test's folder."""
    site = WorkerSite(tmp_path)
    try:
        yield site
    finally:
        await site.close()
