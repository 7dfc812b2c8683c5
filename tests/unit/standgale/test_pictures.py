"""Checks which files `standgale detect` opens, and the geographic positions of detections."""

from __future__ import annotations

import io
import os
from pathlib import Path

import cv2
import numpy as np
import pytest
import rasterio
from PIL import Image
from PIL.TiffImagePlugin import IFDRational
from rasterio.crs import CRS

from detectors.card.card import ClassCard
from detectors.geometry.arrays import Detections
from detectors.rasters.ground import Georeference, metres_between
from detectors.rasters.ground_positions import feature_collection, ground_positions
from infra.errors import ImageCorruptError, SettingsError
from standgale import pictures
from standgale.pictures import open_picture
from tests.photographs import packet, tiff_of_16_bits

pytestmark = pytest.mark.filterwarnings("ignore::rasterio.errors.NotGeoreferencedWarning")

MANY = 10_000_000
CLASSES = (ClassCard(name="car"), ClassCard(name="boat"))


def tiff(path: Path, dtype: str = "uint8", count: int = 3, **profile: object) -> Path:
    values = np.random.default_rng(1).integers(0, 200, (count, 90, 120)).astype(dtype)
    shape = {"driver": "GTiff", "width": 120, "height": 90, "count": count, "dtype": dtype}
    with rasterio.open(path, "w", **{**shape, **profile}) as file:
        file.write(values)
    return path


@pytest.mark.parametrize(
    ("profile", "by_window"),
    [
        ({}, False),
        ({"count": 1}, False),
        ({"dtype": "uint16"}, False),
        ({"count": 6}, False),
        ({"BIGTIFF": "YES"}, False),
        ({"compress": "zstd"}, False),
        ({"compress": "lerc"}, True),
        ({"crs": "EPSG:32633", "transform": rasterio.Affine(0.5, 0, 500_000, 0, -0.5, 5_000_000)}, True),
    ],
)
def test_tiff_is_read_by_window_when_large_georeferenced_or_lerc(
    tmp_path: Path, profile: dict[str, object], by_window: bool
) -> None:
    with open_picture(tiff(tmp_path / "a.tif", **profile), MANY) as found:  # type: ignore[arg-type]  # a test's keywords
        assert (found.raster is not None, found.image is None) == (by_window, by_window)
        assert (found.width, found.height) == (120, 90)
        assert (found.gsd_m is None) == ("crs" not in profile)


def test_a_large_tiff_is_read_by_window(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tiff(tmp_path / "a.tif")
    for name, limit in (("WINDOW_PIXELS", 120 * 90 - 1), ("WINDOW_BYTES", 1_000)):
        with monkeypatch.context() as patched:
            patched.setattr(pictures, name, limit)
            with open_picture(path, MANY) as found:
                assert found.raster is not None
    with open_picture(path, 120 * 90 - 1) as found:
        assert found.raster is not None
    png = tmp_path / "a.png"
    cv2.imwrite(str(png), np.zeros((90, 120, 3), np.uint8))
    with pytest.raises(ImageCorruptError, match=r"detector\.max_pixels"), open_picture(png, 120 * 90 - 1):
        pass


def test_missing_picture_raises_settings_error_with_its_path(tmp_path: Path) -> None:
    for path in (tmp_path / "gone.tif", tmp_path):
        with pytest.raises(SettingsError, match="give the path of a picture"), open_picture(path, MANY):
            pass


def test_scale_of_a_photograph_is_read_from_its_metadata(tmp_path: Path) -> None:
    tags = Image.Exif()
    tags[271] = "test"
    # A focal length of 4.5 mm that would be 26 mm on 36 × 24 mm.
    tags.get_ifd(0x8769).update({0x920A: IFDRational(45, 10), 0xA405: 26})
    xmp = (
        '<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#">'
        '<rdf:Description xmlns:drone-dji="http://www.dji.com/drone-dji/1.0/" drone-dji:RelativeAltitude="+40.0">'
        "</rdf:Description></rdf:RDF></x:xmpmeta>"
    )
    out = io.BytesIO()
    Image.new("RGB", (400, 300)).save(out, "JPEG", exif=tags, xmp=xmp.encode())
    path = tmp_path / "a.jpg"
    path.write_bytes(out.getvalue())
    with open_picture(path, MANY) as found:
        # The diagonal of the sensor is 4.5 / 26 of full frame's, its width 4/5 of that.
        assert found.gsd_m == pytest.approx(40 * (43.267 * 4.5 / 26 * 0.8) / (4.5 * 400), rel=1e-3)
    Image.new("RGB", (400, 300)).save(path)
    with open_picture(path, MANY) as found:
        assert found.gsd_m is None


@pytest.mark.parametrize("by_window", [False, True])
def test_scale_of_a_16_bit_tiff_is_read_from_its_metadata(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, by_window: bool
) -> None:
    if by_window:
        monkeypatch.setattr(pictures, "WINDOW_PIXELS", 1)
    path = tmp_path / "a.tif"
    xmp = packet('drone-dji:RelativeAltitude="+40.0"')
    path.write_bytes(tiff_of_16_bits({0x920A: 4.5, 0xA405: 26}, xmp, (400, 300)))
    with open_picture(path, MANY) as found:
        assert (found.raster is not None) == by_window
        assert found.gsd_m == pytest.approx(40 * (43.267 * 4.5 / 26 * 0.8) / (4.5 * 400), rel=1e-3)
        assert found.capture.warnings == ()


def test_boxes_over_a_raster_are_drawn_on_a_reduced_picture(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pictures, "DRAWN_PX", 60)
    box = np.array([[20, 10, 60, 40]], np.float32)
    quad = box[:, [[0, 1], [2, 1], [2, 3], [0, 3]]]
    found = Detections(box, np.array([0.9], np.float32), np.array([0], np.int32), quad)
    with open_picture(tiff(tmp_path / "a.tif", "uint16", compress="lerc"), MANY) as picture:
        image, scaled = picture.shown_with(found)
    assert image.shape == (45, 60, 3)
    assert scaled.boxes.tolist() == (box / 2).tolist()
    assert scaled.quads is not None
    assert scaled.quads.tolist() == (quad / 2).tolist()


def test_ground_positions_sizes_and_rings_on_earth() -> None:
    ground = Georeference(CRS.from_epsg(32633), (0.5, 0, 500_000, 0, -0.5, 5_000_000))
    boxes = np.array([[0, 0, 40, 10], [100, 100, 104, 130]], np.float32)
    found = Detections(boxes, np.array([0.9, 0.8], np.float32), np.array([1, 0], np.int32))
    places = ground_positions(found, ground)
    assert places.sides_m == pytest.approx(np.array([[20, 5], [15, 2]]), rel=1e-3)
    assert metres_between(places.centres[0], places.centres[1]) == pytest.approx(np.hypot(41, 55), rel=1e-3)
    for mirrored in (ground, Georeference(ground.crs, (0.5, 0, 500_000, 0, 0.5, 5_000_000))):
        mapped = feature_collection(found, ground_positions(found, mirrored), CLASSES)
        features = mapped["features"]
        assert isinstance(features, list)
        assert [each["properties"]["label"] for each in features] == ["boat", "car"]
        for each in features:
            (ring,) = each["geometry"]["coordinates"]
            assert len(ring) == 5
            assert ring[0] == ring[-1]
            x, y = np.array(ring[:-1]).T - np.array(ring[0])[:, None]
            assert (x * np.roll(y, -1) - np.roll(x, -1) * y).sum() > 0


def test_rotated_box_is_measured_along_its_sides() -> None:
    ground = Georeference(CRS.from_epsg(32633), (0.5, 0, 500_000, 0, -0.5, 5_000_000))
    quad = np.array([[[10, 10], [40, 40], [34, 46], [4, 16]]], np.float32)
    found = Detections(
        np.array([[4, 10, 40, 46]], np.float32), np.array([1], np.float32), np.array([0], np.int32), quad
    )
    assert ground_positions(found, ground).sides_m == pytest.approx(np.hypot([[15, 3]], [[15, 3]]), rel=1e-3)


def test_detection_outside_the_earth_has_no_ground_shape() -> None:
    seen_from_space = Georeference(
        CRS.from_string("+proj=geos +h=35785831 +lon_0=0 +sweep=y"), (1e5, 0, -5e6, 0, -1e5, 4e6)
    )
    boxes = np.array([[0, 0, 1, 1], [50, 40, 51, 41]], np.float32)
    found = Detections(boxes, np.array([0.9, 0.8], np.float32), np.array([0, 0], np.int32))
    places = ground_positions(found, seen_from_space)
    assert places.row(0) is None
    assert places.row(1) is not None
    features = feature_collection(found, places, CLASSES)["features"]
    assert isinstance(features, list)
    assert features[0] == {
        "type": "Feature",
        "id": 0,
        "geometry": None,
        "properties": {"label": "car", "confidence": 0.9},
    }


def test_metres_across_the_180th_meridian() -> None:
    one, other = np.array([179.9999, 0.0]), np.array([-179.9999, 0.0])
    assert metres_between(one, other) == pytest.approx(0.0002 * 111_319.49, rel=1e-4)


def test_pipes_devices_and_files_that_are_too_large_are_refused_unread(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.jpg")
    (tmp_path / "loop.jpg").symlink_to("loop.jpg")
    huge = tmp_path / "huge.jpg"
    Image.new("RGB", (8, 8)).save(huge)
    os.truncate(huge, 60 << 30)
    kinds = {tmp_path / "pipe.jpg": "pipe", Path("/dev/zero"): "device", tmp_path / "loop.jpg": "symbolic links"}
    for path, reason in {**kinds, huge: "64,424,509,440 bytes, at most"}.items():
        with pytest.raises(SettingsError, match=reason), open_picture(path, MANY):
            pass
