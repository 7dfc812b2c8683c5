"""The verb `edge` as people use it: real processes on a real gateway."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import orjson
import pytest

from infra.deploy.ports import free_port
from schemas.topics import FRAMES_BACKFILL
from standgale.children import standgale_command
from tests.harnesses.edge_process import EdgeProcess, captured_at
from tests.paths import ROOT
from tests.servers.gateway import TOKEN
from tests.servers.gateway_process import GatewayProcess

pytestmark = pytest.mark.integration


@pytest.fixture(scope="module")
def gateway(tmp_path_factory: pytest.TempPathFactory) -> Iterator[GatewayProcess]:
    with GatewayProcess(tmp_path_factory.mktemp("gateway") / "g") as started:
        yield started


@pytest.fixture
def edge(tmp_path: Path, gateway: GatewayProcess) -> Iterator[EdgeProcess]:
    client = EdgeProcess(tmp_path / "camera", tmp_path / "spool", gateway.url)
    yield client
    client.kill()


def run(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    others = {name: text for name, text in os.environ.items() if not name.startswith("STANDGALE_")}
    return subprocess.run(
        standgale_command("edge", *arguments),
        env={**others, "PYTHONPATH": str(ROOT), "COLUMNS": "200", **environment},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


@pytest.mark.parametrize(
    ("environment", "message"),
    [
        ({"STANDGALE_EDGE__URL": ""}, "edge.url (STANDGALE_EDGE__URL) is not set; give it"),
        ({"STANDGALE_EDGE__TOKEN": ""}, "STANDGALE_EDGE__TOKEN_FILE"),
        (
            {"STANDGALE_EDGE__FOLDER": "/nowhere"},
            "(STANDGALE_EDGE__FOLDER) is /nowhere, which is no folder",
        ),
        ({"STANDGALE_EDGE__URL": "gateway"}, "edge.url (STANDGALE_EDGE__URL): received 'gateway'"),
        ({"STANDGALE_EDGE__URL": "https://127.0.0.1:1", "STANDGALE_EDGE__CA_FILE": "/nowhere"}, "edge.ca_file"),
    ],
    ids=["no url", "no token", "no folder", "wrong url", "no authorities"],
)
def test_wrong_settings_end_the_start_with_one_error(tmp_path: Path, environment: dict[str, str], message: str) -> None:
    given = {"STANDGALE_EDGE__URL": "http://127.0.0.1:1", "STANDGALE_EDGE__TOKEN": "secret-token"}
    given |= {"STANDGALE_EDGE__FOLDER": str(tmp_path), "STANDGALE_EDGE__SPOOL": f"{tmp_path}-spool", **environment}
    done = run(**given)
    assert done.returncode == 2, done.stderr
    assert done.stderr.startswith("error INVALID_SETTING: ")
    assert message in done.stderr
    assert "Traceback" not in done.stderr
    assert "secret-token" not in done.stderr


async def test_edge_sends_a_folder_shows_its_status_and_stops(edge: EdgeProcess, gateway: GatewayProcess) -> None:
    before = len(await gateway.frames(FRAMES_BACKFILL))
    for number in range(5):
        edge.write(number)
    edge.start()
    status = await edge.wait_until(lambda found: found.state.counts.sent == 5)
    assert (status.running, status.is_well, status.frames) == (True, True, 0)
    shown = run("status", "--spool", str(edge.spool))
    assert shown.returncode == 0, shown.stdout
    assert "running            yes" in shown.stdout
    assert "takes frames" in shown.stdout
    second = run("--spool", str(edge.spool), "--folder", str(edge.folder), "--url", edge.url, STANDGALE_EDGE__TOKEN="t")
    assert second.returncode == 2
    assert "which another edge client has; stop it, or give another folder" in second.stderr
    assert edge.process is not None
    arguments = Path(f"/proc/{edge.process.pid}/cmdline").read_bytes()
    assert TOKEN.encode() not in arguments
    assert edge.stop() == 0
    assert TOKEN not in edge.logged()
    assert "Traceback" not in edge.logged()
    stopped = run("status", "--spool", str(edge.spool), "--json")
    assert stopped.returncode == 1
    found = orjson.loads(stopped.stdout)
    assert (found["running"], found["well"], found["state"]["counts"]["sent"]) == (False, False, 5)
    frames = (await gateway.frames(FRAMES_BACKFILL))[before:]
    assert [frame.captured_at for frame in frames] == [captured_at(number) for number in range(5)]
    assert [frame.original_filename for frame in frames] == [f"{number:06d}.jpg" for number in range(5)]
    assert len(list(edge.folder.iterdir())) == 5


async def test_frames_are_held_until_the_token_in_the_file_works(edge: EdgeProcess, tmp_path: Path) -> None:
    """C-S1-114: 401 throws nothing away; a new token in the file is enough, without a restart."""
    token_file = tmp_path / "token"
    token_file.write_text("stg_wrong_0123456789\n")
    edge.environment = {"STANDGALE_EDGE__TOKEN_FILE": str(token_file), "STANDGALE_EDGE__TOKEN": ""}
    for number in range(10, 13):
        edge.write(number)
    edge.start("--delete")
    status = await edge.wait_until(lambda found: found.frames == 3 and found.state.link_problem is not None)
    assert "UNAUTHORIZED" in (status.state.link_problem or "")
    assert run("status", "--spool", str(edge.spool)).returncode == 1
    token_file.write_text(f"{TOKEN}\n")
    await edge.wait_until(lambda found: found.state.counts.sent == 3)
    assert list(edge.folder.iterdir()) == []
    assert edge.stop() == 0
    assert TOKEN not in edge.logged()
    assert "stg_wrong" not in edge.logged()


async def test_refused_pictures_are_set_aside_and_put_back(edge: EdgeProcess) -> None:
    """C-S1-115: of several pictures only the refused one is affected, and it can be sent again alone."""
    edge.write(20)
    (edge.folder / "broken.jpg").write_bytes(b"\xff\xd8 no picture \xff\xd9")
    edge.write(21)
    edge.start()
    status = await edge.wait_until(lambda found: found.state.counts.sent == 2 and found.refused == 1)
    assert not status.is_well
    reasons = list((edge.spool / "refused").glob("*-broken.jpg.reason.json"))
    assert orjson.loads(reasons[0].read_bytes())["code"] == "INVALID_FORMAT"
    running = run("retry", "--spool", str(edge.spool))
    assert running.returncode == 2
    assert "an edge client runs on the spool" in running.stderr
    assert edge.stop() == 0
    done = run("retry", "--spool", str(edge.spool), STANDGALE_EDGE__MIN_FREE_BYTES="0")
    assert (done.returncode, done.stdout) == (0, "1 frame put back into the spool\n")
    edge.start()
    await edge.wait_until(lambda found: found.refused == 1 and found.frames == 0)
    assert edge.stop() == 0


async def test_stop_in_an_outage_is_quick_and_keeps_the_frames(tmp_path: Path) -> None:
    edge = EdgeProcess(tmp_path / "camera", tmp_path / "spool", f"http://127.0.0.1:{free_port()}")
    edge.environment = {"STANDGALE_EDGE__MAX_DELAY_S": "600", "STANDGALE_EDGE__FIRST_DELAY_S": "500"}
    edge.write(1)
    edge.start("--delete")
    try:
        await edge.wait_until(lambda found: found.frames == 1 and found.state.link_problem is not None)
        assert edge.stop() == 0
    finally:
        edge.kill()
    assert edge.status().frames == 1


def test_status_names_a_spool_that_does_not_exist(tmp_path: Path) -> None:
    shown = run("status", "--spool", str(tmp_path / "none"))
    assert shown.returncode == 1
    assert f"{tmp_path}/none, which does not exist" in shown.stderr


async def test_edge_ends_with_an_error_when_its_spool_is_replaced(edge: EdgeProcess) -> None:
    edge.start()
    edge.write(1)
    await edge.wait_until(lambda found: found.state.counts.sent == 1)
    edge.spool.rename(edge.spool.with_name("away"))
    edge.spool.mkdir()
    assert edge.process is not None
    assert edge.process.wait(20) == 1
    edge.process = None
    assert "was removed, unmounted or replaced by another folder" in edge.logged()
    assert "Traceback" not in edge.logged()
