"""K9: detections of all frames by filters and pages: what a client may see, and in which order."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from infra.auth.tokens import ApiKeys
from infra.database.pool import Database
from schemas.events import DetectionsMade
from schemas.geometry import Box, CameraGeometry, Point
from sinks.postgres.sink import PostgresSink
from standgale.testing.factories import detections_made
from tests.harnesses.job_site import JobSite, job_site
from tests.servers.console import ConsoleResponse

pytestmark = pytest.mark.integration

PATH = "/api/v1/detections"


@pytest.fixture
async def site(tmp_path: Path, database: Database) -> AsyncIterator[JobSite]:
    async with job_site(tmp_path, database) as found:
        await PostgresSink(database).open()
        yield found


async def write(site: JobSite, *events: DetectionsMade) -> None:
    await PostgresSink(site.console.database).write(events)


async def found(site: JobSite, **query: Any) -> list[dict[str, Any]]:
    response = await asked(site, **query)
    assert response.status == 200, response.body
    return list(response.json["data"]["detections"])


async def asked(site: JobSite, *, key: str | None = "", **query: Any) -> ConsoleResponse:
    return await site.console.get(PATH, key=key, params=query)


def labels(rows: list[dict[str, Any]]) -> list[str]:
    return [row["label"] for row in rows]


def at(number: int, latitude: float | None, longitude: float | None, **changes: Any) -> DetectionsMade:
    camera = CameraGeometry(latitude=latitude, longitude=longitude)
    return detections_made(number, labels=(f"at {longitude}",), camera=camera, **changes)


async def test_a_detection_has_its_frame_device_model_and_box_in_pixels(site: JobSite) -> None:
    event = detections_made(7, labels=("bird",), flight_id="north")
    await write(site, event)
    (row,) = await found(site)
    assert row == {
        "id": str(event.detections[0].id),
        "frame_id": str(event.frame_id),
        "device_id": "drone-1",
        "captured_at": "2026-05-01T12:00:07.000000Z",
        "detected_at": "2026-05-01T12:00:07.350000Z",
        "label": "bird",
        "class_id": 3,
        "confidence": 0.5,
        **{"x_min": 1000.0, "y_min": 1500.0, "x_max": 3000.0, "y_max": 3000.0},
        "corners": None,
        **{"frame_width": 4000, "frame_height": 3000},
        **{"model_name": "small", "model_version": "1.0"},
        "flight_id": "north",
        "filename": "DJI_0001.JPG",
        "lakefs_path": None,
        **{"latitude": 50.5, "longitude": 4.25},
    }
    assert "file:" not in str(row)


async def test_filters_select_by_device_label_score_time_and_flight(site: JobSite) -> None:
    await write(
        site,
        detections_made(0, labels=("bird", "boat", "car")),
        detections_made(1, labels=("boat",), device="drone-2", flight_id="north"),
        detections_made(2, labels=("plane",)),
        detections_made(3, labels=()),
    )
    every = labels(await found(site))
    assert every[:2] == ["plane", "boat"]
    assert sorted(every[2:]) == ["bird", "boat", "car"]
    assert labels(await found(site, device="drone-2")) == ["boat"]
    assert await found(site, device="drone-9") == []
    assert {row["device_id"] for row in await found(site, device=["drone-1", "drone-2"])} == {"drone-1", "drone-2"}
    assert labels(await found(site, label=["plane", "bird"])) == ["plane", "bird"]
    # The scores are 1/2, 1/3, 1/4.
    assert labels(await found(site, device="drone-1", confidence=0.5)) == ["plane", "bird"]
    assert labels(await found(site, flight="north")) == ["boat"]
    assert labels(await found(site, captured_from="2026-05-01T12:00:02Z")) == ["plane"]
    assert labels(await found(site, captured_from="2026-05-01T12:00:01Z", captured_to="2026-05-01T12:00:02Z")) == [
        "boat"
    ]


async def test_box_areas_are_in_square_pixels_of_the_frame(site: JobSite) -> None:
    """C-S1-037"""
    event = detections_made(0, labels=("small", "large"))
    small = event.detections[0].model_copy(update={"box": Box(x1=0, y1=0, x2=10 / 4000, y2=9 / 3000)})
    await write(site, event.model_copy(update={"detections": [small, event.detections[1]]}))
    assert labels(await found(site, min_box_px=100)) == ["large"]
    assert labels(await found(site, max_box_px=100)) == ["small"]
    assert len(await found(site, min_box_px=89, max_box_px=3_000_001)) == 2


async def test_an_area_selects_by_the_position_of_the_camera(site: JobSite) -> None:
    await write(site, at(0, 0.5, 179.5), at(1, 0.5, -179.5), at(2, 0.5, 0.5), at(3, None, None))
    assert labels(await found(site, area="0,0,1,1")) == ["at 0.5"]
    across = "POLYGON((179 0, -179 0, -179 1, 179 1))"
    assert labels(await found(site, area=across)) == ["at -179.5", "at 179.5"]
    westward = "POLYGON((-179 0, 179 0, 179 1, -179 1))"
    assert labels(await found(site, area=westward)) == ["at -179.5", "at 179.5"]
    assert labels(await found(site, area="179,0,-179,1")) == ["at -179.5", "at 179.5"]
    hour = {"captured_from": "2026-05-01T12:00:00Z", "captured_to": "2026-05-01T12:00:01Z"}
    assert labels(await found(site, area=across, **hour)) == ["at 179.5"]
    assert len(await found(site)) == 4


async def test_pages_have_each_detection_once_while_rows_come_and_go(site: JobSite) -> None:
    await write(site, *(detections_made(n, labels=("a", "b", "c")) for n in range(1, 8)))
    seen: list[str] = []
    after: dict[str, str] = {}
    while True:
        body = (await asked(site, limit=4, **after)).json["data"]
        seen += [row["id"] for row in body["detections"]]
        if body["next_after"] is None:
            break
        after = {"after": body["next_after"]}
        # A newer frame is on no later page; one that was read is gone.
        await write(site, detections_made(20 + len(seen)))
        async with site.console.database.acquire() as connection:
            await connection.execute("DELETE FROM detections WHERE id = $1::text::uuid", seen[-1])
    assert len(seen) == len(set(seen)) == 21


async def test_a_page_begins_after_a_place_that_is_made_of_a_row(site: JobSite) -> None:
    await write(site, detections_made(1, labels=("a", "b", "c")))
    every = await found(site)
    first = every[0]
    place = f"{first['captured_at']},{first['frame_id']},{first['id']}"
    assert await found(site, after=place) == every[1:]


async def test_detections_of_a_job_are_its_clients_alone(site: JobSite) -> None:
    job = await site.job(1)
    await site.answer(*await site.publish(), scores=(0.9,))
    await write(site, detections_made(1, labels=("bird",)))
    assert labels(await found(site)) == ["bird"]
    (mine,) = await found(site, job=job)
    assert mine["confidence"] == 0.9
    other = await site.console.other_client()
    for wanted in (job, "job_unknown", "x' OR '1'='1"):
        response = await asked(site, key=other, job=wanted)
        assert (response.status, response.code) == (404, "JOB_NOT_FOUND")
        assert response.json["error"]["field"] == "job"
    assert (await asked(site, key=other)).json["data"]["detections"][0]["label"] == "bird"


_NIL = "00000000-0000-0000-0000-000000000000"
_WRONG: tuple[tuple[dict[str, Any], str, str], ...] = (
    ({"confidence": "nan"}, "confidence", "Must be a number"),
    ({"confidence": "1.1"}, "confidence", "Must be at most 1"),
    ({"confidence": "much"}, "confidence", "Must be a number"),
    ({"limit": "0"}, "limit", "Must be between 1 and 100,000"),
    ({"limit": "100001"}, "limit", "Must be between 1 and 100,000"),
    ({"label": "a\0b"}, "label", "null character"),
    ({"captured_from": "2026-05-01"}, "captured_from", "with its zone"),
    ({"captured_from": "2026-05-01T12:00:00 02:00"}, "captured_from", "a + in an address is written %2B"),
    ({"area": "POLYGON((0 0, 10 10, 10 0, 0 10))"}, "area", "cross or touch"),
    ({"area": "1,2"}, "area", "west,south,east,north"),
    ({"after": "1,2,3"}, "after", "next_after of the page before"),
    ({"after": "2026-05-01T12:00:00,x,y"}, "after", "next_after of the page before"),
    ({"after": f"0001-01-01T00:00:00+23:59,{_NIL},{_NIL}"}, "after", "next_after of the page before"),
    ({"after": f"9999-12-31T23:59:59-23:59,{_NIL},{_NIL}"}, "after", "next_after of the page before"),
    ({"confidence": ["0.5", "0.6"]}, "confidence", "Was given 2 times; give it once"),
    ({"format": "shapefile"}, "format", "Must be one of"),
    ({"where": "1=1"}, "where", "Is not known"),
)


async def test_a_wrong_query_names_the_field(site: JobSite) -> None:
    for query, field, error in _WRONG:
        response = await asked(site, **query)
        assert (response.status, response.code) == (400, "INVALID_CONFIG"), query
        (fault,) = response.json["errors"]
        assert (fault["field"], error in fault["error"]) == (field, True), fault


async def test_a_client_sees_the_devices_of_its_list_only(site: JobSite) -> None:
    await write(site, *(detections_made(1, labels=(name,), device=name) for name in ("drone-1", "drone-2", "mast-1")))
    site_keys = ApiKeys(site.console.database)
    key = await site_keys.add_for("guest", ["drone-2", "mast-*"])
    await site.console.keys.refresh()
    seen = (await asked(site, key=key)).json["data"]["detections"]
    assert sorted(labels(seen)) == ["drone-2", "mast-1"]
    assert (await asked(site, key=key, device="drone-1")).json["data"]["detections"] == []
    assert labels((await asked(site, key=key, device="mast-1")).json["data"]["detections"]) == ["mast-1"]


async def test_labels_with_quotes_are_values_and_no_part_of_the_query(site: JobSite) -> None:
    label = 'it\'s "a"; DROP TABLE detections --'
    await write(site, detections_made(1, labels=(label, "b")))
    assert labels(await found(site, label=label)) == [label]
    assert labels(await found(site, label="' OR ''='")) == []


async def test_the_corners_of_a_rotated_box_are_in_pixels(site: JobSite) -> None:
    event = detections_made(1, labels=("boat",))
    corners = tuple(Point(x=x, y=y) for x, y in ((0.25, 0.5), (0.75, 0.5), (0.75, 1.0), (0.25, 1.0)))
    rotated = event.detections[0].model_copy(update={"corners": corners})
    await write(site, event.model_copy(update={"detections": [rotated]}))
    (row,) = await found(site)
    assert row["corners"] == [1000.0, 1500.0, 3000.0, 1500.0, 3000.0, 3000.0, 1000.0, 3000.0]
