"""Annotations that come back are rows of data_annotations, once each, as soon as the rows of their images are there."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web

from infra.database.pool import Database
from infra.failure.settings import RetrySettings
from sinks.annotations.returned import ReturnedAnnotations
from sinks.postgres.sink import PostgresSink
from tests.harnesses.annotation_site import AnnotationSite, found_event
from tests.servers.annotations import Annotations, Posted, annotations_service

pytestmark = pytest.mark.integration

ROWS = """
SELECT image_id, detection_id, annotation_type, corrected_bbox->>'x2' AS x2, corrected_label, annotator, annotated_at,
    notes FROM data_annotations ORDER BY annotation_type
"""
FALSE_POSITIVE = {"id": 7, "annotationType": "false_positive", "detection": 0, "annotator": "ann", "notes": "a leaf"}
MISSED = {
    **{"annotationType": "missed_detection", "label": "bird", "annotatedAt": "2026-05-01T12:00:00+02:00"},
    **{"centerX": 0.9, "centerY": 0.5, "width": 0.4, "height": 0.2},
}


@pytest.fixture
async def service() -> AsyncIterator[Annotations]:
    async with annotations_service() as found:
        yield found


@pytest.fixture
async def site(tmp_path: Path, database: Database, service: Annotations) -> AsyncIterator[AnnotationSite]:
    found = AnnotationSite(database, tmp_path, service.url)
    yield found
    await found.close()


def returning(service: Annotations, annotations: list[Any]) -> None:
    async def answer_post(_: Posted) -> web.Response:
        return web.json_response({"id": "a-1", "annotations": annotations}, status=201)

    service.answer_post = answer_post


async def test_annotations_wait_for_the_rows_of_their_images_and_are_stored_once(
    site: AnnotationSite, service: Annotations
) -> None:
    """C-S1-054."""
    returning(service, [FALSE_POSITIVE, MISSED, {"annotationType": ""}, "none", FALSE_POSITIVE])
    run = await site.run()
    event = found_event(0, run)
    returned = ReturnedAnnotations(site.database, 1.0, RetrySettings())
    await site.sink().write([event])
    assert await returned.work() == 0
    await PostgresSink(site.database).write([event])
    assert [await returned.work() for _ in range(2)] == [1, 0]
    false_positive, missed = await site.rows(ROWS)
    assert false_positive == {
        **{"image_id": event.frame_id, "detection_id": event.detections[0].id, "annotation_type": "false_positive"},
        **{"x2": None, "corrected_label": None, "annotator": "ann", "notes": "a leaf"},
        "annotated_at": false_positive["annotated_at"],
    }
    assert (missed["detection_id"], missed["x2"], missed["corrected_label"]) == (None, "1.0", "bird")
    assert missed["annotated_at"].isoformat() == "2026-05-01T10:00:00+00:00"


async def test_a_detection_that_has_no_row_leaves_the_annotation_with_its_image(
    site: AnnotationSite, service: Annotations
) -> None:
    returning(service, [FALSE_POSITIVE])
    run = await site.run()
    event = found_event(0, run)
    await site.sink().write([event])
    await PostgresSink(site.database).write([event.model_copy(update={"detections": []})])
    assert await ReturnedAnnotations(site.database, 1.0, RetrySettings()).work() == 1
    [row] = await site.rows(ROWS)
    assert (row["image_id"], row["detection_id"]) == (event.frame_id, None)
