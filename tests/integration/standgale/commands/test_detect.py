"""`standgale detect` as people use it: pictures and large TIFFs, drawn, mapped, refused."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import orjson
import pytest
import rasterio

from infra.extras import install_extra
from standgale.testing.graphs import COLOURS_BGR, write_model
from tests.photographs import packet, photograph

pytestmark = [
    pytest.mark.integration,
    pytest.mark.filterwarnings("ignore::rasterio.errors.NotGeoreferencedWarning"),
]

LEFT, TOP, RIGHT, BOTTOM = 700, 900, 740, 920
UTM = {"crs": "EPSG:32633", "transform": rasterio.Affine(0.5, 0, 500_000, 0, -0.5, 5_000_000)}


def standgale(folder: Path, *arguments: str, status: int = 0) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "STANDGALE_DATA_DIR": str(folder / "data"), "COLUMNS": "200"}
    command = [sys.executable, "-P", "-m", "standgale", "detect", *arguments]
    done = subprocess.run(
        command, env=environment, cwd=folder, capture_output=True, text=True, timeout=150, check=False
    )
    assert done.returncode == status, f"{done.returncode}\n{done.stdout}\n{done.stderr}"
    assert "Traceback" not in done.stderr
    return done


@pytest.fixture(scope="module")
def card(tmp_path_factory: pytest.TempPathFactory) -> str:
    return str(write_model(tmp_path_factory.mktemp("model")))


def geotiff(path: Path, **profile: object) -> Path:
    """A TIFF of 1400×1200 pixels with one rectangle; a quarter of it has no content."""
    image = np.full((1200, 1400, 3), 90, np.uint8)
    image[:500, :600] = 0
    image[TOP:BOTTOM, LEFT:RIGHT] = COLOURS_BGR[0]
    shape = {"width": 1400, "height": 1200, "count": 3, "dtype": "uint8", "nodata": 0}
    layout = {"tiled": True, "blockxsize": 256, "blockysize": 256}
    with rasterio.open(path, "w", driver="GTiff", **{**shape, **layout, **profile}) as file:
        file.write(image[..., ::-1].transpose(2, 0, 1))
    return path


def test_a_geotiff_is_read_by_window_drawn_and_mapped(tmp_path: Path, card: str) -> None:
    photo, out, drawn = geotiff(tmp_path / "a.tif", **UTM), tmp_path / "a.geojson", tmp_path / "a.png"
    wanted = ("--model", card, "--geojson", str(out), "--out", str(drawn), "--json")
    found = orjson.loads(standgale(tmp_path, str(photo), *wanted).stdout)
    assert (found["width"], found["height"]) == (1400, 1200)
    assert found["gsd_m"] == pytest.approx(0.5002, abs=1e-4)
    assert found["options"]["tile_width"] == 128
    # 14 columns and 12 rows of tiles; 5 rows of 5 lie wholly in what has no content.
    assert (found["tiles"], found["empty_tiles"]) == (168, 20)
    (detection,) = found["detections"]
    assert np.allclose(detection["box"], [LEFT, TOP, RIGHT, BOTTOM], atol=1)
    ground = detection["ground"]
    assert (ground["length_m"], ground["width_m"]) == pytest.approx((20, 10), abs=0.6)
    assert ground["lon"] == pytest.approx(15.004582, abs=1e-5)
    assert ground["lat"] == pytest.approx(45.149381, abs=1e-5)

    mapped = orjson.loads(out.read_bytes())
    assert mapped["type"] == "FeatureCollection"
    (feature,) = mapped["features"]
    assert feature["properties"] == {
        "label": "red",
        "confidence": detection["confidence"],
        "length_m": ground["length_m"],
        "width_m": ground["width_m"],
    }
    (ring,) = feature["geometry"]["coordinates"]
    assert ring[0] == ring[-1]
    assert sorted(map(tuple, ring[:-1])) == sorted(map(tuple, ground["corners"]))
    x, y = np.array(ring[:-1]).T - np.array(ring[0])[:, None]
    assert (x * np.roll(y, -1) - np.roll(x, -1) * y).sum() > 0
    assert cv2.imread(str(drawn)).shape == (1200, 1400, 3)


def test_a_raster_gives_what_the_same_picture_gives(tmp_path: Path, card: str) -> None:
    raster = geotiff(tmp_path / "a.tif", **UTM, nodata=None)
    plain = tmp_path / "a.png"
    with rasterio.open(raster) as file:
        cv2.imwrite(str(plain), file.read().transpose(1, 2, 0)[..., ::-1])
    one, two = (
        orjson.loads(standgale(tmp_path, str(path), "--model", card, "--json").stdout) for path in (raster, plain)
    )
    assert [row["box"] for row in one["detections"]] == [row["box"] for row in two["detections"]] != []
    assert (two["gsd_m"], two["tiles"], two["empty_tiles"]) == (None, one["tiles"], 0)


def test_gsd_option_gives_the_scale_that_the_picture_lacks(tmp_path: Path, card: str) -> None:
    photo = geotiff(tmp_path / "a.tif")
    options = ("--model", card, "--gsd", "0.1", "--tile-metres", "40", "--json")
    found = orjson.loads(standgale(tmp_path, str(photo), *options).stdout)
    assert (found["options"]["tile_width"], found["options"]["tile_metres"], found["gsd_m"]) == (400, 40, 0.1)


def test_detect_prints_tiles_scale_and_written_files(tmp_path: Path, card: str) -> None:
    photo = geotiff(tmp_path / "a.tif", **UTM)
    done = standgale(tmp_path, str(photo), "--model", card, "--geojson", "a.geojson")
    assert "168 tiles, 20 of them without content; 128×128 px, 0.5 m per pixel" in done.stderr
    assert "map written to a.geojson" in done.stderr
    assert not done.stderr.startswith("\n"), "an empty line in place of a progress bar"
    assert "red" in done.stdout


def test_detect_reports_boxes_larger_than_their_class(tmp_path: Path) -> None:
    names = [{"name": name, "max_size_m": 10.0} for name in ("one", "two", "three")]
    model = str(write_model(tmp_path, classes=names))
    photo = geotiff(tmp_path / "a.tif")
    done = standgale(tmp_path, str(photo), "--model", model, "--gsd", "2")
    assert "nothing found with a score of at least 0." in done.stdout
    assert "boxes left out: larger than their class can be at 2 m per pixel" in done.stderr


def test_merging_option_chooses_the_merge_method(tmp_path: Path, card: str) -> None:
    photo = geotiff(tmp_path / "a.tif")
    found = orjson.loads(standgale(tmp_path, str(photo), "--model", card, "--merging", "wbf", "--json").stdout)
    assert found["options"]["merge_method"] == "wbf"
    assert len(found["detections"]) == 1
    refused = standgale(tmp_path, str(photo), "--model", card, "--merging", "best", status=2).stderr
    assert "--merging best: unknown; give one of nms, nmm, greedy_nmm, wbf" in refused


def test_impossible_options_are_refused_before_detection(tmp_path: Path, card: str) -> None:
    photo = geotiff(tmp_path / "a.tif")

    def refused(*arguments: str) -> str:
        return standgale(tmp_path, *arguments, "--model", card, status=2).stderr

    assert "no place on a map" in refused(str(photo), "--geojson", str(tmp_path / "a.geojson"))
    assert "add --gsd" in refused(str(photo), "--tile-metres", "40")
    assert "--gsd -1" in refused(str(photo), "--gsd", "-1")
    assert "no folder" in refused(str(photo), "--out", str(tmp_path / "gone" / "a.png"))
    assert ".xyz" in refused(str(photo), "--out", str(tmp_path / "a.xyz"))
    cut_off = geotiff(tmp_path / "cut.tif", **UTM)
    os.truncate(cut_off, cut_off.stat().st_size // 2)
    text = refused(str(cut_off))
    assert "IMAGE_CORRUPT" in text
    assert "cut short" in text


def test_without_rasterio_a_large_tiff_names_the_extra_and_a_small_one_is_read(
    tmp_path: Path, card: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    photo = geotiff(tmp_path / "a.tif", **UTM, nodata=None)
    script = "import sys; sys.modules['rasterio'] = None; sys.argv = ['standgale', *sys.argv[1:]]\n"
    script += "import standgale.pictures as p; p.WINDOW_BYTES = int(sys.argv.pop(1))\n"
    script += "from standgale.cli import main; main()"

    def run(most_bytes: int, *options: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-c", script, str(most_bytes), "detect", str(photo), "--model", card, *options]
        return subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=150, check=False)

    small, large = run(100_000_000), run(1_000)
    assert small.returncode == 0, small.stderr
    assert "red" in small.stdout
    assert "warning: its place on the map and its scale were not read" in small.stderr
    monkeypatch.setenv("STANDGALE_DETECTOR__MAX_PIXELS", "1000")
    many_pixels = run(100_000_000)
    monkeypatch.undo()
    for refused in (large, many_pixels):
        assert refused.returncode == 2
        assert "install the extra geo of standgale" in refused.stderr
    for option in (("--geojson", "a.geojson"), ("--tile-metres", "40")):
        needs_ground = run(100_000_000, *option)
        assert needs_ground.returncode == 2
        assert f"{' '.join(option)}: position and scale of the TIFF" in needs_ground.stderr
        assert install_extra("geo") in " ".join(needs_ground.stderr.split())


def test_metadata_of_a_photograph_and_what_of_it_is_unknown(tmp_path: Path, card: str) -> None:
    xmp = packet('rdf:about="Road & Rail" drone-dji:RelativeAltitude="+50"')
    photo = tmp_path / "a.jpg"
    photo.write_bytes(photograph({0x9003: "2026:01:31 12:00:00", 0x920A: 4.5, 0xA405: 26}, xmp=xmp, size=(400, 300)))
    found = orjson.loads(standgale(tmp_path, str(photo), "--model", card, "--json").stdout)
    assert found["gsd_m"] == pytest.approx(50 * (43.267 / 26 * 0.8) / 400, rel=1e-3)
    assert (found["camera"]["altitude_m"], found["captured_at"]) == (50.0, "2026-01-31T12:00:00.000000Z")
    packet_warning, time_warning = found["warnings"]
    assert "read one by one" in packet_warning
    assert "read as UTC" in time_warning
    shown = standgale(tmp_path, str(photo), "--model", card).stderr
    assert "warning: an XMP packet could not be read" in shown
    assert "capture time" not in shown
