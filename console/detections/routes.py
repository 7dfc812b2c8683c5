"""Serves the detections of all frames that belong to no job, and of a client's own jobs."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Depends, Query
from starlette.responses import Response, StreamingResponse

from console.detections.bodies import DetectionsBody
from console.detections.download import Download
from console.detections.parquet import ParquetWriter
from console.detections.query import DetectionsQuery, Format
from console.detections.records import DetectionRecords
from console.detections.writers import EXTENSIONS, CsvWriter, GeoJsonWriter, JsonWriter, Writer
from console.http.callers import Caller, caller_of
from console.http.document import Responses, errors
from console.jobs.job_route import JobRoute
from console.parts import ConsoleParts
from console.results.threads import ResultThreads

_FILE = {"schema": {"type": "string", "format": "binary"}}
_BODY: Responses = {
    200: {
        "model": DetectionsBody,
        "description": "The detections, in the format that was asked for",
        "content": {
            GeoJsonWriter.media_type: {"schema": {"type": "object"}},
            "text/csv": {"schema": {"type": "string"}},
            ParquetWriter.media_type: _FILE,
        },
    },
    **errors("JOB_NOT_FOUND", "FORMAT_UNAVAILABLE"),
}


def detections_router(parts: ConsoleParts) -> APIRouter:
    """Return the route of detections."""
    routes = APIRouter(route_class=JobRoute, tags=["detections"])
    records, threads = DetectionRecords(parts), ResultThreads()

    @routes.get("/api/v1/detections", summary="Detections by filters and pages", responses=_BODY)
    async def list_detections(
        query: Annotated[DetectionsQuery, Query()], caller: Annotated[Caller, Depends(caller_of)]
    ) -> Response:
        """Return detections, the newest capture first, as JSON, GeoJSON, CSV or Parquet.

        Those of frames that belong to no job are for every client; those of a job are for its client, who names it.
        """
        chosen = await records.select(caller, query)
        writer = _writer(query.format)
        download = Download(records, threads, writer, chosen, query.limit)
        # Before the response begins, so that what is wrong is an error and no response that is cut off.
        await download.read_first(query.begins_after)
        return StreamingResponse(
            download.pieces(lambda: caller.is_allowed(parts.keys)),
            media_type=writer.media_type,
            headers=_file_name(query.format),
        )

    return routes


def _writer(wanted: Format) -> Writer:
    made: dict[Format, type[Writer]] = {
        "json": JsonWriter,
        "geojson": GeoJsonWriter,
        "csv": CsvWriter,
        "parquet": ParquetWriter,
    }
    return made[wanted]()


def _file_name(wanted: Format) -> dict[str, str]:
    if wanted == "json":
        return {}
    return {"Content-Disposition": f'attachment; filename="detections.{EXTENSIONS[wanted]}"'}
