"""K9: detections as GeoJSON, CSV and Parquet, read back by readers of these formats; large ones in pages."""

from __future__ import annotations

import csv
import io
import json
import sys
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pyarrow.parquet
import pytest

from console.detections import download, parquet
from console.detections.bodies import DetectionsBody, ListedDetection
from console.detections.rows import COLUMNS
from infra.auth.tokens import ApiKeys
from infra.database.pool import Database
from schemas.geometry import CameraGeometry
from sinks.postgres.sink import PostgresSink
from standgale.testing.factories import detections_made
from tests.harnesses.job_site import JobSite, job_site

pytestmark = pytest.mark.integration

PATH = "/api/v1/detections"
ROWS = 25


@pytest.fixture
async def site(tmp_path: Path, database: Database, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[JobSite]:
    """A site with 25 detections, of which a page has 4 and a row group 10."""
    monkeypatch.setattr(download, "PAGE_ROWS", 4)
    monkeypatch.setattr(parquet, "_GROUP_ROWS", 10)
    async with job_site(tmp_path, database) as found:
        sink = PostgresSink(database)
        await sink.open()
        await sink.write([detections_made(n, labels=("bird", 'a "b", c', "x\ny", "=1+1", "é")) for n in range(4)])
        unknown = CameraGeometry(altitude_m=10)
        await sink.write([detections_made(4, labels=("f", "g", "h", "i", "j"), camera=unknown, original_filename=None)])
        yield found


async def content(site: JobSite, wanted: str, **query: Any) -> tuple[str, bytes]:
    response = await site.console.get(PATH, params={"format": wanted, "limit": 1_000, **query})
    assert response.status == 200, response.body
    if wanted != "json":
        assert response.headers["Content-Disposition"] == f'attachment; filename="detections.{wanted}"'
    return response.headers["Content-Type"], response.body


async def rows(site: JobSite) -> list[dict[str, Any]]:
    kind, body = await content(site, "json")
    assert kind == "application/json"
    parsed = json.loads(body)
    DetectionsBody.model_validate(parsed)
    assert parsed["data"]["next_after"] is None
    found: list[dict[str, Any]] = parsed["data"]["detections"]
    assert len(found) == ROWS
    return found


async def test_the_document_describes_the_columns_of_all_formats(site: JobSite) -> None:
    assert tuple(ListedDetection.model_fields) == COLUMNS == tuple((await rows(site))[0])
    assert tuple(parquet.ParquetWriter()._schema.names) == COLUMNS


async def test_geojson_is_a_collection_of_features_at_the_camera(site: JobSite) -> None:
    """RFC 7946; where the position is unknown the geometry is null, which readers take for a row without a place."""
    kind, body = await content(site, "geojson")
    assert kind == "application/geo+json"
    document = json.loads(body)
    assert set(document) == {"type", "features", "next_after"}
    assert document["type"] == "FeatureCollection"
    every = await rows(site)
    assert [feature["properties"] for feature in document["features"]] == every
    for feature, row in zip(document["features"], every, strict=True):
        assert (set(feature), feature["type"]) == ({"type", "id", "geometry", "properties"}, "Feature")
        known = None if row["longitude"] is None else {"type": "Point", "coordinates": [4.25, 50.5]}
        assert feature["geometry"] == known
    assert sum(feature["geometry"] is None for feature in document["features"]) == 5


async def test_csv_has_a_line_of_names_and_every_detection(site: JobSite) -> None:
    kind, body = await content(site, "csv")
    assert kind == "text/csv; charset=utf-8"
    read = list(csv.DictReader(io.StringIO(body.decode(), newline="")))
    assert tuple(read[0]) == COLUMNS
    every = await rows(site)
    for line, row in zip(read, every, strict=True):
        assert line == {name: "" if value is None else str(value) for name, value in row.items()}


async def test_parquet_has_types_row_groups_and_every_detection(site: JobSite) -> None:
    kind, body = await content(site, "parquet")
    assert kind == "application/vnd.apache.parquet"
    file = pyarrow.parquet.ParquetFile(io.BytesIO(body))
    # Groups are written when a page has filled them.
    assert [file.metadata.row_group(n).num_rows for n in range(file.num_row_groups)] == [12, 12, 1]
    table, every = file.read().to_pylist(), await rows(site)
    assert [str(row["id"]) for row in table] == [row["id"] for row in every]
    assert [row["label"] for row in table] == [row["label"] for row in every]
    assert table[-1]["captured_at"] == datetime(2026, 5, 1, 12, tzinfo=UTC)
    assert table[0]["longitude"] is None
    assert table[-1]["x_max"] == 3000.0


async def test_an_empty_result_is_a_valid_file_of_each_format(site: JobSite) -> None:
    nothing = {"device": "drone-9"}
    assert json.loads((await content(site, "geojson", **nothing))[1])["features"] == []
    assert (await content(site, "csv", **nothing))[1].decode().strip() == ",".join(COLUMNS)
    table = pyarrow.parquet.read_table(io.BytesIO((await content(site, "parquet", **nothing))[1]))
    assert (table.num_rows, tuple(table.column_names)) == (0, COLUMNS)


async def test_a_limit_ends_the_response_with_the_next_place(site: JobSite) -> None:
    for limit in (3, 4, 8, 24, 25):
        _, body = await content(site, "geojson", limit=limit)
        document = json.loads(body)
        assert len(document["features"]) == limit
        _, rest = await content(site, "json", after=document["next_after"])
        assert len(json.loads(rest)["data"]["detections"]) == ROWS - limit


async def test_without_the_library_parquet_is_an_error_that_names_the_extra(
    site: JobSite, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    response = await site.console.get(PATH, params={"format": "parquet"})
    assert (response.status, response.code) == (501, "FORMAT_UNAVAILABLE")
    assert "extra parquet" in response.json["details"]


async def test_a_key_that_is_revoked_meanwhile_cuts_the_response_off(
    site: JobSite, monkeypatch: pytest.MonkeyPatch
) -> None:
    read, console = download.Download._read, site.console

    async def revoking(self: download.Download, after: Any) -> None:
        await read(self, after)
        if after is None:
            await ApiKeys(console.database).revoke("desktop")
            await console.keys.refresh()

    monkeypatch.setattr(download.Download, "_read", revoking)
    with pytest.raises(Exception, match="payload is not completed"):
        await console.get(PATH, params={"format": "csv", "limit": 1_000})
