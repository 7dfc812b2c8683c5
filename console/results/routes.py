"""Serves the results of jobs: data, label files, a zip of all."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from functools import partial
from typing import Annotated

import orjson
from fastapi import APIRouter, Depends, Query
from starlette.responses import PlainTextResponse, Response, StreamingResponse

from console.http.callers import Caller, caller_of
from console.http.document import Responses, errors
from console.http.errors import InvalidConfigError
from console.parts import ConsoleParts
from console.results.archive import Member, Names, zip_of
from console.results.bodies import ComparisonBody
from console.results.comparer import JobComparer
from console.results.formats import FORMATS, CocoAnnotations, Format, as_json, as_voc, as_yolo, coco_image
from console.results.records import Found, ResultFile, ResultJob, ResultRecords
from console.results.result_bodies import ResultsBody

_Caller = Annotated[Caller, Depends(caller_of)]
_FormatQuery = Annotated[str, Query(json_schema_extra={"enum": list(FORMATS)})]
_NOT_READY = errors("RESULTS_NOT_READY")
_BODY: Responses = {200: {"model": ResultsBody, "description": "The results"}, **_NOT_READY}
_XML: Responses = {
    200: {"description": "The annotation", "content": {"application/xml": {"schema": {"type": "string"}}}},
    **_NOT_READY,
}
_ZIP: Responses = {
    200: {
        "description": "The zip",
        "content": {"application/zip": {"schema": {"type": "string", "format": "binary"}}},
    },
    **_NOT_READY,
}
_JSON = "application/json"


def results_router(parts: ConsoleParts) -> APIRouter:
    """Return the routes of results."""
    router = APIRouter(tags=["results"])
    records = ResultRecords(parts)
    comparer = JobComparer(records)

    @router.get("/api/v1/jobs/{job_id}/results", summary="What a job found", responses=_BODY)
    async def results(
        job_id: str,
        caller: _Caller,
        format: _FormatQuery = "json",  # noqa: A002 (the parameter's name)
        file_id: Annotated[str | None, Query(description="only this file")] = None,
    ) -> Response:
        """Return the detections of a completed job, file by file in the order of the upload.

        Of a cancelled job it has the files that were done.
        """
        wanted = _format(format)
        job = await records.job(caller.client_id, job_id)
        files = await records.files(job, file_id)
        return StreamingResponse(_document(records, job, files, wanted), media_type=_JSON)

    @router.get(
        "/api/v1/jobs/{job_id}/results/{file_id}/labels.txt",
        summary="The YOLO label file of one picture",
        response_class=PlainTextResponse,
        responses=_NOT_READY,
    )
    async def labels(job_id: str, file_id: str, caller: _Caller) -> Response:
        """Return one line for each detection: class, centre, width and height (normalised), score."""
        file = await _one(records, caller, job_id, file_id)
        return PlainTextResponse(await records.threads.run(as_yolo, await records.found(file)))

    @router.get(
        "/api/v1/jobs/{job_id}/results/{file_id}/labels.xml",
        summary="The Pascal VOC annotation of one picture",
        response_class=Response,
        responses=_XML,
    )
    async def annotation(job_id: str, file_id: str, caller: _Caller) -> Response:
        """Return the XML of one picture."""
        file = await _one(records, caller, job_id, file_id)
        found = await records.found(file)
        return Response(await records.threads.run(as_voc, file, found), media_type="application/xml")

    @router.get(
        "/api/v1/jobs/{job_id}/results.zip",
        summary="All results of a job in one file",
        response_class=StreamingResponse,
        responses=_ZIP,
    )
    async def archive(
        job_id: str,
        caller: _Caller,
        format: _FormatQuery = "yolo",  # noqa: A002 (the parameter's name)
    ) -> Response:
        """Return a zip: one label file for each picture (yolo, voc), or one document (json, coco)."""
        wanted = _format(format)
        job = await records.job(caller.client_id, job_id)
        files = await records.files(job)
        return StreamingResponse(
            zip_of(_members(records, job, files, wanted)),
            media_type="application/zip",
            headers={"Content-Disposition": f'attachment; filename="{job.job_id}-{wanted}.zip"'},
        )

    @router.get(
        "/api/v1/jobs/{job_id}/compare/{other_id}",
        summary="What only one of two jobs found",
        responses={200: {"model": ComparisonBody, "description": "The comparison"}, **_NOT_READY},
    )
    async def comparison(
        job_id: str,
        other_id: str,
        caller: _Caller,
        iou: Annotated[str, Query(description="how much two boxes overlap that are one, 0.01 to 1")] = "0.5",
    ) -> Response:
        """Compare two completed jobs in the pictures that both have, by content."""
        least = _share(iou)
        jobs = [await records.job(caller.client_id, each) for each in (job_id, other_id)]
        return Response(await comparer.body(jobs, [await records.files(job) for job in jobs], least), media_type=_JSON)

    return router


async def _one(records: ResultRecords, caller: Caller, job_id: str, file_id: str) -> ResultFile:
    job = await records.job(caller.client_id, job_id)
    return (await records.files(job, file_id))[0]


def _format(text: str) -> Format:
    for each in FORMATS:
        if text == each:
            return each
    raise InvalidConfigError.of("format", f"Must be one of {', '.join(FORMATS)}")


def _share(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = float("nan")
    if not 0.01 <= value <= 1.0:
        raise InvalidConfigError.of("iou", "Must be between 0.01 and 1.0")
    return value


async def _document(
    records: ResultRecords, job: ResultJob, files: Sequence[ResultFile], wanted: Format
) -> AsyncIterator[bytes]:
    """Yield the body piece by piece: the detections of one file are in memory at a time."""
    yield f'{{"status":"success","data":{{"job_id":"{job.job_id}","format":"{wanted}",'.encode()
    if wanted == "coco":
        yield b'"coco":'
        async for piece in _coco(records, job, files):
            yield piece
        yield b"}}"
        return
    yield b'"results":[' if wanted == "json" else b'"files":['
    for place, file in enumerate(files):
        entry = await records.threads.run(_entry, job, file, await records.found(file), wanted)
        yield (b"," if place else b"") + entry
    yield b"]}}"


def _entry(job: ResultJob, file: ResultFile, found: Sequence[Found], wanted: Format) -> bytes:
    """Return the part of one file in the body."""
    if wanted == "json":
        return orjson.dumps(as_json(file, found))
    path = f"/api/v1/jobs/{job.job_id}/results/{file.file.file_id}/labels."
    entry = {"file_id": file.file.file_id, "filename": file.file.filename}
    if wanted == "yolo":
        entry |= {"label_content": as_yolo(found), "download_url": f"{path}txt"}
    else:
        entry |= {"xml": as_voc(file, found), "download_url": f"{path}xml"}
    return orjson.dumps(entry)


async def _coco(records: ResultRecords, job: ResultJob, files: Sequence[ResultFile]) -> AsyncIterator[bytes]:
    """Yield a COCO document: its images, then the annotations file by file, then all classes."""
    head = {
        "info": {"description": f"Detections of {job.job_id}"},
        "images": [coco_image(file, number) | {"file_id": file.file.file_id} for number, file in enumerate(files, 1)],
    }
    yield orjson.dumps(head)[:-1] + b',"annotations":['
    annotations, separator = CocoAnnotations(await records.classes(job)), b""
    for number, file in enumerate(files, 1):
        found = await records.found(file)
        if found:
            yield separator + await records.threads.run(_coco_piece, annotations, file, number, found)
            separator = b","
    yield b'],"categories":' + orjson.dumps(annotations.categories()) + b"}"


def _coco_piece(annotations: CocoAnnotations, file: ResultFile, number: int, found: Sequence[Found]) -> bytes:
    return orjson.dumps(annotations.of(file, number, found))[1:-1]


async def _members(
    records: ResultRecords, job: ResultJob, files: Sequence[ResultFile], wanted: Format
) -> AsyncIterator[tuple[str, Member]]:
    """Yield what is in the zip: label files by the names of their pictures, or one document."""
    if wanted == "coco":
        yield f"{job.job_id}.json", partial(_coco, records, job, files)
        return
    if wanted == "json":
        yield f"{job.job_id}.json", partial(_document, records, job, files, wanted)
        return
    names = Names()
    # Taken first, because readers look for it by this name.
    name_of_classes = names.of("classes", "txt")
    classes = await records.classes(job)

    async def label_file(file: ResultFile) -> AsyncIterator[bytes]:
        found = await records.found(file)
        for each in found:
            classes.setdefault(each.class_id, each.label)
        yield (await records.threads.run(_labels, file, found, wanted)).encode()

    async def class_names() -> AsyncIterator[bytes]:
        # A line for each class number, as readers of YOLO labels expect them; a number without a name is empty.
        names = (" ".join(classes.get(number, "").splitlines()) for number in range(max(classes, default=-1) + 1))
        yield "".join(f"{name}\n" for name in names).encode()

    for file in files:
        yield names.of(file.file.filename, "txt" if wanted == "yolo" else "xml"), partial(label_file, file)
    if wanted == "yolo":
        yield name_of_classes, class_names


def _labels(file: ResultFile, found: Sequence[Found], wanted: Format) -> str:
    return as_yolo(found) if wanted == "yolo" else as_voc(file, found)
