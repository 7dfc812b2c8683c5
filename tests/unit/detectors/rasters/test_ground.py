"""Checks that metres per pixel and places on the ground follow from the georeference."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import rasterio

from detectors.card.card import ClassCard
from detectors.geometry.arrays import Detections
from detectors.model.loading import LoadRequest, load_model
from detectors.model.predict import Predictor
from detectors.rasters.file import RasterFile
from detectors.rasters.ground_positions import feature_collection, ground_positions
from detectors.rasters.source import RasterSource
from standgale.testing.graphs import COLOURS_BGR, write_model
from tests.raster_files import UTM, ground_file, noise, write

pytestmark = pytest.mark.filterwarnings("ignore::rasterio.errors.NotGeoreferencedWarning")


def test_metres_per_pixel_from_a_projection(tmp_path: Path) -> None:
    with RasterFile(write(tmp_path / "a.tif", noise(80, 100), **UTM)) as file:
        # On the central meridian a metre of UTM is 1 / 0.9996 metres.
        assert file.gsd_m == pytest.approx(0.25 / 0.9996, rel=1e-5)
        assert file.ground is not None
        lon, lat = file.ground.lonlat(np.array([0.0, 0.0])).tolist()
        assert (lon, lat) == pytest.approx((15.0, 45.153477183), abs=1e-7)


def test_metres_per_pixel_from_degrees_feet_mercator_and_turned_rows(tmp_path: Path) -> None:
    degrees = rasterio.Affine(1e-5, 0, 13.4, 0, -1e-5, 60.0)
    with RasterFile(ground_file(tmp_path / "degrees.tif", "EPSG:4326", degrees)) as file:
        assert file.ground is not None
        along_row, along_column = file.ground.pixel_sides_m(50, 40)
        assert (along_row, along_column) == pytest.approx((0.5580, 1.1141), abs=2e-4)
        assert file.gsd_m == along_row
    feet = rasterio.Affine(1, 0, 984_000, 0, -1, 200_000)
    with RasterFile(ground_file(tmp_path / "feet.tif", "EPSG:2263", feet)) as file:
        assert file.gsd_m == pytest.approx(0.3048, rel=1e-3)
    mercator = rasterio.Affine(1, 0, 1_500_000, 0, -1, 8_399_737.9)
    with RasterFile(ground_file(tmp_path / "mercator.tif", "EPSG:3857", mercator)) as file:
        # At 60 degrees a metre of web Mercator is half a metre on the ground.
        assert file.gsd_m == pytest.approx(0.5, rel=5e-3)
    cosine, sine = 0.1 * np.cos(0.5), 0.1 * np.sin(0.5)
    turned = rasterio.Affine(cosine, sine, 500_000, sine, -cosine, 5_000_000)
    with RasterFile(ground_file(tmp_path / "turned.tif", "EPSG:32633", turned)) as file:
        assert file.gsd_m == pytest.approx(0.1, rel=1e-3)


def test_a_place_outside_the_earth_is_no_georeference(tmp_path: Path) -> None:
    local = 'LOCAL_CS["site",UNIT["metre",1]]'
    path = ground_file(tmp_path / "a.tif", local, rasterio.Affine(0.1, 0, 0, 0, -0.1, 0))
    with RasterFile(path) as file:
        assert (file.ground, file.gsd_m) == (None, None)


def test_a_pixel_beyond_the_earths_edge_has_no_place(tmp_path: Path) -> None:
    seen_from_space = "+proj=geos +h=35785831 +lon_0=0 +sweep=y"
    path = ground_file(tmp_path / "a.tif", seen_from_space, rasterio.Affine(1e5, 0, -5e6, 0, -1e5, 4e6))
    with RasterFile(path) as file:
        assert file.ground is not None
        found = file.ground.lonlat(np.array([[50.0, 40.0], [0.0, 0.0], [51.0, 40.0]]))
    assert np.isnan(found[:, 0]).tolist() == [False, True, False]
    assert found[0] == pytest.approx([0, 0], abs=1e-6)


def test_metres_per_pixel_size_tiles_and_bound_objects(tmp_path: Path) -> None:
    image = np.zeros((600, 800, 3), np.uint8)
    image[50:90, 60:100] = COLOURS_BGR[0]
    image[300:500, 300:500] = COLOURS_BGR[1]
    path = write(tmp_path / "a.tif", image[..., ::-1].transpose(2, 0, 1).copy(), **UTM)
    classes = [{"name": name, "max_size_m": 30.0} for name in ("one", "two", "three")]
    card = write_model(tmp_path / "model", classes=classes, tiling={"mode": "gsd", "metres": 60})
    with Predictor(load_model(LoadRequest(card, "onnxruntime"))) as predictor, RasterFile(path) as file:
        found = predictor.find(RasterSource(file), gsd_m=file.gsd_m)
        assert (found.options.tile_width, found.options.tile_metres) == (240, 60)
        # The second is 50 m long.
        assert found.detections.classes.tolist() == [0]


@pytest.mark.parametrize("west", [179.9996, -180.0004, 539.9996])
def test_longitudes_across_the_180th_meridian_stay_below_180(tmp_path: Path, west: float) -> None:
    path = ground_file(tmp_path / "a.tif", "EPSG:4326", rasterio.Affine(1e-5, 0, west, 0, -1e-5, 10.0))
    boxes = np.array([[10, 10, 20, 20], [30, 30, 50, 40], [60, 60, 70, 70]], np.float32)
    found = Detections(boxes, np.full(3, 0.9, np.float32), np.zeros(3, np.int32))
    with RasterFile(path) as file:
        assert file.ground is not None
        places = ground_positions(found, file.ground)
    assert np.abs(places.centres[:, 0]) == pytest.approx([179.99975, 180, 179.99975], abs=1e-9)
    assert places.sides_m[:, 0] == pytest.approx([11.06, 21.93, 11.06], abs=0.01)
    shapes = [each["geometry"] for each in feature_collection(found, places, (ClassCard(name="car"),))["features"]]
    assert [shape["type"] for shape in shapes] == ["Polygon", "MultiPolygon", "Polygon"]
    (western,), (eastern,) = shapes[1]["coordinates"]
    assert {lon for lon, _ in western} == {179.9999, 180.0}
    assert {lon for lon, _ in eastern} == {-180.0, -179.9999}
    assert all(len(ring) == 5 and ring[0] == ring[-1] for ring in (western, eastern))


def test_metres_per_pixel_at_a_pole(tmp_path: Path) -> None:
    # A pixel on the other side of the pole is half a turn away in longitude, and 20 cm on the ground.
    middle = rasterio.Affine(0.2, 0, 2_000_000 - 10, 0, -0.2, 2_000_000 + 8)
    with RasterFile(ground_file(tmp_path / "a.tif", "EPSG:32661", middle)) as found:
        assert found.gsd_m == pytest.approx(0.2 / 0.994, rel=1e-3)


@pytest.mark.parametrize(
    ("system", "affine"),
    [
        ("EPSG:4326", rasterio.Affine(2e-6, 0, 10, 0, -2e-6, 95)),
        ("EPSG:4978", rasterio.Affine(0.2, 0, 4_000_000, 0, -0.2, 1_000_000)),
    ],
)
def test_degrees_beyond_a_pole_and_geocentric_metres_are_no_place(
    tmp_path: Path, system: str, affine: rasterio.Affine
) -> None:
    with RasterFile(ground_file(tmp_path / "a.tif", system, affine)) as found:
        assert (found.ground, found.gsd_m) == (None, None)


@pytest.mark.parametrize("side", [0.5, 1e-12])
def test_metres_per_pixel_outside_the_bounds_are_unknown(tmp_path: Path, side: float) -> None:
    with RasterFile(ground_file(tmp_path / "a.tif", "EPSG:4326", rasterio.Affine(side, 0, 10, 0, -side, 40))) as found:
        assert found.ground is not None
        assert found.gsd_m is None
