"""The examples on the pages for authors of plug-ins work: each is installed, tested with its contract, and used."""

from __future__ import annotations

import asyncio
import json
import signal
import sqlite3
import subprocess
import sys
from collections.abc import Callable
from contextlib import closing
from functools import cache
from pathlib import Path

import cv2
import numpy as np
import onnx
import pytest
from onnx import helper, numpy_helper

from infra.broker.embedded.adapter import EmbeddedBroker
from infra.broker.open import embedded_file
from schemas.topics import DETECTIONS, load_topics
from standgale.testing.factories import detections_made, out_record
from standgale.testing.graphs import GraphSpec, change_graph, write_model
from standgale.testing.waiting import until
from tests.harnesses.plugin_projects import PluginProject

PAGES = ("write-a-sink.md", "write-a-head.md", "write-an-engine.md")
LONGEST_EXAMPLE = {"write-a-sink.md": 40, "write-a-head.md": 50, "write-an-engine.md": 50}


Installed = Callable[[str], PluginProject]


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Installed:
    """Installs the project of a page, once."""

    @cache
    def install(page: str) -> PluginProject:
        project = PluginProject.of_page(tmp_path_factory.mktemp("page"), page)
        project.install()
        # What is imported is the installed module, not the file beside the test.
        for file in project.folder.glob("*.py"):
            if not file.name.startswith("test_"):
                file.unlink()
        return project

    return install


@pytest.mark.parametrize("page", PAGES)
def test_example_of_the_page_passes_its_contract(page: str, installed: Installed) -> None:
    project = installed(page)
    (example,) = project.installed.glob("*.py")
    assert len(example.read_text().splitlines()) <= LONGEST_EXAMPLE[page]
    printed = project.python("pytest", "-q", "-p", "no:cacheprovider", "--import-mode=importlib", ".")
    assert " passed" in printed
    assert "failed" not in printed


async def test_sink_of_the_page_archives_the_events_of_the_topic(installed: Installed, tmp_path: Path) -> None:
    project = installed("write-a-sink.md")
    data, archive = tmp_path / "data", tmp_path / "archive.sqlite"
    data.mkdir()
    broker = EmbeddedBroker(embedded_file(data), load_topics())
    publisher = await broker.publisher()
    events = [detections_made(number) for number in range(20)]
    await publisher.publish([out_record(event, DETECTIONS) for event in events])
    await publisher.close()

    variables = {"STANDGALE_DATA_DIR": str(data), "ARCHIVE_FILE": str(archive), "STANDGALE_TELEMETRY__HEALTH_PORT": "0"}
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        *("-P", "-m", "standgale", "sink", "archive"),
        env=project.environment(**variables),
        cwd=tmp_path,
        stderr=subprocess.PIPE,
    )

    async def committed() -> bool:
        assert process.returncode is None, await process.stderr.read() if process.stderr else b""
        admin = await broker.admin()
        lag = await admin.group_lag("sink.archive", [DETECTIONS])
        await admin.close()
        return sum(lag.values()) == 0

    await until(committed, "the sink has not committed everything")
    process.send_signal(signal.SIGTERM)
    assert await asyncio.wait_for(process.wait(), 60) == 0
    await broker.close()
    with closing(sqlite3.connect(archive)) as file:
        stored = [row[0] for row in file.execute("SELECT id FROM detections")]
    assert sorted(stored) == sorted(str(event.id) for event in events)


def test_head_of_the_page_reads_the_model_whose_card_names_its_layout(installed: Installed, tmp_path: Path) -> None:
    project = installed("write-a-head.md")
    card = change_graph(
        write_model(tmp_path / "model", GraphSpec("nms_inside"), layout="score_first"), _put_the_score_first
    )
    picture = _red_rectangle(tmp_path)
    found = project.python(
        "standgale", "detect", str(picture), "--model", str(card), "--json", STANDGALE_DETECTOR__MEASURE_S="0"
    )
    detections = json.loads(found[found.index("{") : found.rindex("}") + 1])["detections"]
    assert [one["label"] for one in detections] == ["red"]


def test_engine_of_the_page_runs_when_the_setting_names_it(installed: Installed, tmp_path: Path) -> None:
    project = installed("write-an-engine.md")
    card = write_model(tmp_path / "model", GraphSpec())
    printed = project.python(
        *("standgale", "detect", str(_red_rectangle(tmp_path)), "--model", str(card)),
        STANDGALE_DETECTOR__ENGINE="reference",
    )
    assert "onnx computes in f32 on one thread" in printed
    assert "red" in printed


def _red_rectangle(folder: Path) -> Path:
    picture = np.full((128, 128, 3), 90, np.uint8)
    picture[20:60, 30:80] = (0, 0, 255)
    path = folder / "picture.png"
    cv2.imwrite(str(path), picture)
    return path


def _put_the_score_first(model: onnx.ModelProto) -> None:
    (output,) = model.graph.output
    for node in model.graph.node:
        node.output[:] = ["finished" if name == output.name else name for name in node.output]
    model.graph.initializer.append(numpy_helper.from_array(np.array([4, 5, 0, 1, 2, 3]), "columns"))
    model.graph.node.append(helper.make_node("Gather", ["finished", "columns"], [output.name], axis=2))
