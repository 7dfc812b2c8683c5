"""The command line as people use it: real processes, their output, their exit status, and their words for bad input."""

from __future__ import annotations

import os
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path

import cv2
import numpy as np
import orjson
import pytest
import yaml

from standgale.testing.graphs import write_model
from tests.paths import ROOT

pytestmark = pytest.mark.integration


class Standgale:
    """Runs `standgale …` in a folder of its own."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.environment = {**os.environ, "STANDGALE_DATA_DIR": str(folder / "data"), "COLUMNS": "200"}

    def __call__(self, *arguments: str, status: int = 0, **environment: str) -> subprocess.CompletedProcess[str]:
        done = subprocess.run(
            [sys.executable, "-P", "-m", "standgale", *arguments],
            env={**self.environment, **environment},
            cwd=self.folder,
            capture_output=True,
            text=True,
            timeout=150,
            check=False,
        )
        assert done.returncode == status, f"{done.returncode}\n{done.stdout}\n{done.stderr}"
        assert "Traceback" not in done.stderr
        return done

    def json(self, *arguments: str, **environment: str) -> object:
        return orjson.loads(self(*arguments, "--json", **environment).stdout)


@pytest.fixture
def standgale(server_dir: Path) -> Standgale:
    return Standgale(server_dir)


def picture(path: Path, width: int = 400, height: int = 300) -> Path:
    image = np.full((height, width, 3), 90, np.uint8)
    image[100:130, 60:100] = (0, 0, 255)
    cv2.imwrite(str(path), image)
    return path


def test_one_picture_is_detected_listed_and_drawn(standgale: Standgale, tmp_path: Path) -> None:
    card = write_model(tmp_path / "model")
    photo, out = picture(tmp_path / "photo.png"), tmp_path / "boxes.png"
    found = standgale.json("detect", str(photo), "--model", str(card), "--out", str(out))
    assert isinstance(found, dict)
    (detection,) = found["detections"]
    assert detection["label"] == "red"
    assert np.allclose(detection["box"], [60, 100, 100, 130], atol=1)
    drawn, original = cv2.imread(str(out)), cv2.imread(str(photo))
    assert drawn.shape == original.shape
    assert (drawn != original).any()


def test_help_and_version_need_no_settings(standgale: Standgale) -> None:
    wrong = {"STANDGALE_GATEWAY__PORT": "a lot"}
    assert standgale("--version", **wrong).stdout == f"standgale {version('standgale')}\n"
    helped = " ".join(standgale("detect", "--help", **wrong).stdout.split())
    assert "Only detections with at least this score" in helped
    assert "At most so many detections" in helped
    assert "Simulated drones." in standgale("demo", "--help", **wrong).stdout


def test_bad_models_pictures_and_settings_are_named(standgale: Standgale, tmp_path: Path) -> None:
    card = write_model(tmp_path / "model")
    photo = picture(tmp_path / "photo.png")

    def refused(*arguments: str, **environment: str) -> str:
        return standgale(*arguments, status=2, **environment).stderr

    assert "gone.yaml" in refused("detect", str(photo), "--model", str(tmp_path / "gone.yaml"))
    assert "nothing.png" in refused("detect", str(tmp_path / "nothing.png"), "--model", str(card))

    text = tmp_path / "text.jpg"
    text.write_text("no picture")
    assert f"IMAGE_CORRUPT: {text}: " in refused("detect", str(text), "--model", str(card))
    for name in ("out.xyz", "out.bmp"):
        drawn = str(tmp_path / name)
        unwritten = refused("detect", str(photo), "--model", str(card), "--out", drawn)
        assert f"--out {drawn}: '{Path(name).suffix}' is not written; end it with .jpg or .png" in unwritten

    fields = yaml.safe_load(card.read_text())
    card.write_text(yaml.safe_dump({**fields, "sha256": "0" * 64}))
    wrong_sum = refused("detect", str(photo), "--model", str(card))
    assert "MODEL_LOAD_ERROR" in wrong_sum
    assert "sha256" in wrong_sum
    card.write_text(yaml.safe_dump({**fields, "file": "gone.onnx"}))
    assert "gone.onnx" in refused("detect", str(photo), "--model", str(card))

    wrong = refused("topics", "check", STANDGALE_GATEWAY__PORT="a lot", STANDGALE_GATWAY__HOST="x")
    assert "STANDGALE_GATEWAY__PORT" in wrong
    assert "a lot" in wrong
    assert "STANDGALE_GATWAY__HOST" in wrong
    assert "choose one of postgres, sse" in refused("sink", "nowhere")


@pytest.mark.parametrize("command", [("topics", "check"), ("topics", "groups"), ("dead", "redrive", "--all")])
def test_commands_that_look_make_no_file_of_the_embedded_broker(standgale: Standgale, command: tuple[str, ...]) -> None:
    assert "no file" in standgale(*command, status=2).stderr
    assert not list(standgale.folder.rglob("broker.sqlite*"))


def test_an_absent_kafka_is_one_line_on_standard_error(standgale: Standgale) -> None:
    where = {"STANDGALE_BROKER__KIND": "kafka", "STANDGALE_BROKER__BOOTSTRAP_SERVERS": "127.0.0.1:1"}
    done = standgale("dead", "list", status=2, **where)
    [line] = done.stderr.splitlines()
    assert "nothing listens at 127.0.0.1:1" in line


def test_topics_and_settings_and_schemas(standgale: Standgale, tmp_path: Path) -> None:
    assert "frames.live" in standgale("topics", "apply").stdout
    assert "as declared" in standgale("topics", "apply").stdout
    assert standgale.json("topics", "check") == []
    declared = yaml.safe_load((ROOT / "topics.yaml").read_text())
    other = tmp_path / "topics.yaml"
    declared["groups"]["device"].update(partitions=16, grown_from=8)
    other.write_text(yaml.safe_dump(declared))
    for _ in ("a look", "another one, because the first changes nothing"):
        assert "16" in standgale("topics", "check", status=1, STANDGALE_TOPICS_FILE=str(other)).stdout
    declared["groups"]["device"].update(partitions=5, grown_from=None)
    other.write_text(yaml.safe_dump(declared))
    differing = standgale("topics", "check", status=1, STANDGALE_TOPICS_FILE=str(other)).stdout
    assert "frames.live" in differing
    assert standgale.json("topics", "groups") == []
    refused = standgale("topics", "forget-group", "nobody", status=2).stderr
    assert "no group nobody" in refused
    rebuilt = standgale("sink", "rebuild", "webhooks").stdout
    assert "sink.webhooks-jobs is at the start already" in rebuilt
    assert "start it with `standgale sink webhooks`" in rebuilt
    assert "nothing to rebuild" in standgale("sink", "rebuild", "sse", status=2).stderr
    assert "STANDGALE_DETECTOR__MODEL" in standgale("settings").stdout
    # Who has a wrong setting is sent to this list, so only a named file is checked.
    assert "STANDGALE_DETECTOR__MODEL" in standgale("settings", STANDGALE_GATEWAY__PORT="a lot").stdout
    assert "the settings file nope.yaml" in standgale("--config", "nope.yaml", "settings", status=2).stderr
    standgale("schemas", str(tmp_path / "contracts"))
    assert "asyncapi: 3.0.0" in (tmp_path / "contracts" / "asyncapi.yaml").read_text()


def test_devices_from_the_first_token_to_the_last(standgale: Standgale, migrated_dsn: str) -> None:
    environment = {"STANDGALE_DATABASE__URL": migrated_dsn}
    first = standgale("device", "add", "drone-7", **environment).stdout.strip()
    second = standgale("device", "rotate", "drone-7", **environment).stdout.strip()
    assert first.startswith("stg_")
    assert first != second
    listed = standgale.json("device", "list", **environment)
    assert isinstance(listed, list)
    assert [token["valid"] for token in listed] == [True, True]
    assert first not in str(listed)
    revoked = standgale("device", "revoke", "drone-7", "--token", first.split("_")[1], **environment)
    assert revoked.stdout == "1 token of drone-7 revoked\n"
    listed = standgale.json("device", "list", **environment)
    assert isinstance(listed, list)
    assert [token["valid"] for token in listed] == [False, True]
    assert "INVALID_DEVICE" in standgale("device", "add", "no/slash", status=2, **environment).stderr


def test_keys_may_see_the_devices_that_the_operator_names(standgale: Standgale, migrated_dsn: str) -> None:
    database = {"STANDGALE_DATABASE__URL": migrated_dsn}
    added = standgale("key", "add", "map", "--device", "drone-*", "--device", "mast-1", **database)
    assert added.stdout.startswith("sgk_")
    assert "devices" in standgale("key", "devices", "map", "--all", "mast-1", status=2, **database).stderr
    assert "mast-2" in standgale("key", "devices", "map", "mast-2", **database).stdout
    listed = standgale.json("key", "list", **database)
    assert isinstance(listed, list)
    assert [each["devices"] for each in listed] == [["mast-2"]]
    assert "drone-*" in standgale("key", "devices", "map", "a b", status=2, **database).stderr


def test_migrating_up_and_down(standgale: Standgale, empty_dsn: str) -> None:
    environment = {"STANDGALE_DATABASE__URL": empty_dsn}
    assert "base" not in standgale("migrate", "up", **environment).stdout
    assert "base" in standgale("migrate", "down", "base", **environment).stdout


def test_the_demonstration_with_drones_and_with_own_pictures(standgale: Standgale, tmp_path: Path) -> None:
    report = standgale.json("demo", "--drones", "2", "--frames", "3", "--data-dir", str(standgale.folder / "demo"))
    assert isinstance(report, dict)
    assert report["complete"]
    assert [report[name] for name in ("sent", "accepted", "detected", "in_postgres", "seen")] == [6] * 5
    assert report["p95_ms"] > 0
    assert report["recall"] is not None
    drawn = cv2.imread(report["places"]["picture"])
    assert drawn is not None
    assert drawn.shape == (960, 1280, 3)

    folder = tmp_path / "own"
    folder.mkdir()
    for number in range(2):
        picture(folder / f"{number}.jpg", 640 + number, 480)
    (folder / "notes.txt").touch()
    own = standgale.json("demo", "--source", str(folder), "--data-dir", str(standgale.folder / "demo"))
    assert isinstance(own, dict)
    assert own["complete"]
    assert own["sent"] == 2
    assert own["recall"] is None
    assert own["trust"]
    assert "no such folder" in standgale("demo", "--source", str(tmp_path / "gone"), status=2).stderr


def test_dead_letters_are_listed_shown_and_sent_again(standgale: Standgale) -> None:
    poison = (
        "import asyncio, pathlib, sys\n"
        "from infra.broker.embedded.adapter import EmbeddedBroker\n"
        "from infra.broker.port import CommitPoint, GroupSpec, OutRecord\n"
        "from infra.failure.dead_letter_records import dead_letter\n"
        "from infra.errors import ImageMissingError\n"
        "from schemas.topics import load_topics\n"
        "async def main(folder):\n"
        "    broker = EmbeddedBroker(pathlib.Path(folder) / 'broker.sqlite', load_topics())\n"
        "    publisher, reader = await broker.publisher(), await broker.reader()\n"
        "    await publisher.publish([OutRecord('frames.live', 'drone-7', b'poison')])\n"
        "    consumer = await broker.consumer(GroupSpec('detector', ('frames.live',), outputs=True))\n"
        "    records = []\n"
        "    while not records:\n"
        "        records = await consumer.poll(max_records=1, timeout_s=5)\n"
        "    letter = dead_letter(records[0], group='detector', error=ImageMissingError('gone'), attempts=1,\n"
        "                         topic='frames.dead')\n"
        "    point = CommitPoint(records[0].offset + 1, records[0].epoch)\n"
        "    await consumer.commit({records[0].source: point}, [letter])\n"
        "    await consumer.close(); await publisher.close(); await reader.close(); await broker.close()\n"
        "asyncio.run(main(sys.argv[1]))\n"
    )
    data = standgale.folder / "data"
    data.mkdir()
    subprocess.run([sys.executable, "-c", poison, str(data)], check=True, timeout=60)
    (letter,) = standgale.json("dead", "list", "--reason", "IMAGE_MISSING")  # type: ignore[misc]  # a list of one
    assert letter["device_id"] == "drone-7"
    assert "value" not in letter["original"]
    shown = orjson.loads(standgale("dead", "show", letter["id"]).stdout)
    assert shown["original"]["value"] == "cG9pc29u"
    left = {"already": 0, "exhausted": 0, "gone": 0, "lost": 0, "dry_run": False}
    planned = standgale.json("dead", "redrive", "--all", "--dry-run")
    assert planned == {"redriven": 1, **left, "dry_run": True}
    assert standgale.json("dead", "redrive", letter["id"], "--rate", "50") == {"redriven": 1, **left}
    assert standgale.json("dead", "redrive", "--all") == {"redriven": 0, **left, "already": 1}
    assert standgale.json("dead", "redrive", "--all", "--device", "other") == {"redriven": 0, **left}
    assert "were sent again before" in standgale("dead", "redrive", letter["id"], status=1).stdout
    assert "give either" in standgale("dead", "redrive", status=2).stderr
