"""Results of a job in each format, read back by the readers of these formats."""

from __future__ import annotations

import io
import json
import threading
import zipfile
from collections.abc import AsyncIterator, Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
import xmlschema
from pycocotools.coco import COCO

from console.results import compare, comparer, routes
from infra.database.pool import Database
from schemas.events import FrameCaptured, RuleApplied, RulesReport
from tests.harnesses.job_site import JobSite, answer_of, job_site
from tests.harnesses.uploads import picture, upload

pytestmark = pytest.mark.integration

WIDTH, HEIGHT = 200, 100


@pytest.fixture
async def site(tmp_path: Path, database: Database) -> AsyncIterator[JobSite]:
    async with job_site(tmp_path, database) as found:
        yield found


async def job_of(site: JobSite, *files: tuple[str, bytes], **body: Any) -> tuple[str, list[str], list[FrameCaptured]]:
    """A job of real pictures: its id, its files, and the frames that wait for an answer."""
    sent = (await upload(site.console, *files)).json["data"]
    asked = await site.ask(sent["upload_id"], **body)
    assert asked.status == 202, asked.body
    return asked.json["data"]["job_id"], [each["file_id"] for each in sent["uploaded_files"]], await site.publish()


async def done(site: JobSite, scores: Sequence[Sequence[float]] = ((0.9, 0.5), ())) -> tuple[str, list[str]]:
    """A completed job of two pictures, and a third that no detector could read."""
    files = [(f"a/b {n}.jpg", picture("JPEG", WIDTH, HEIGHT, seed=n)) for n in range(len(scores) + 1)]
    job, ids, frames = await job_of(site, *files)
    for frame, some in zip(frames, scores, strict=False):
        await site.answer(frame, scores=some)
    await site.fail(frames[-1])
    return job, ids


async def data(site: JobSite, path: str) -> Any:
    response = await site.console.get(path)
    assert response.status == 200, response.body
    return response.json["data"]


async def test_json_has_pixels_and_normalised_boxes_that_agree(site: JobSite) -> None:
    """C-S2-050, C-S2-051, C-S2-052, C-S2-053."""
    job, ids = await done(site)
    found = await data(site, f"/api/v1/jobs/{job}/results")
    assert (found["job_id"], found["format"]) == (job, "json")
    assert [each["file_id"] for each in found["results"]] == ids
    assert [each["detection_count"] for each in found["results"]] == [2, 0, 0]
    assert found["results"][2]["error"]["code"]
    first = found["results"][0]["detections"][0]
    assert first == {
        "class_id": 0,
        "class_name": "bird",
        "confidence": 0.9,
        "bbox": {"format": "xyxy", "x_min": 50.0, "y_min": 50.0, "x_max": 150.0, "y_max": 100.0},
        "bbox_normalized": {"format": "yolo", "center_x": 0.5, "center_y": 0.75, "width": 0.5, "height": 0.5},
    }
    one = await data(site, f"/api/v1/jobs/{job}/results?file_id={ids[1]}")
    assert [each["file_id"] for each in one["results"]] == [ids[1]]


async def test_yolo_lines_are_those_of_the_label_files(site: JobSite) -> None:
    """C-S2-054, C-S2-055."""
    job, ids = await done(site)
    found = (await data(site, f"/api/v1/jobs/{job}/results?format=yolo"))["files"]
    assert found[0]["label_content"] == "0 0.5 0.75 0.5 0.5 0.9\n0 0.5 0.75 0.5 0.5 0.5\n"
    assert found[1]["label_content"] == ""
    assert found[0]["download_url"] == f"/api/v1/jobs/{job}/results/{ids[0]}/labels.txt"
    labels = await site.console.get(found[0]["download_url"])
    assert labels.body.decode() == found[0]["label_content"]
    for line in labels.body.decode().splitlines():
        class_id, *box, score = line.split()
        assert int(class_id) == 0
        assert all(0.0 <= float(value) <= 1.0 for value in (*box, score))


async def test_coco_is_read_by_its_own_tools(site: JobSite, tmp_path: Path) -> None:
    """C-S2-056."""
    job, ids = await done(site)
    document = (await data(site, f"/api/v1/jobs/{job}/results?format=coco"))["coco"]
    path = tmp_path / "coco.json"
    path.write_text(json.dumps(document))
    coco = COCO(str(path))
    assert [image["file_id"] for image in coco.loadImgs(coco.getImgIds())] == ids
    [category] = coco.loadCats(coco.getCatIds())
    assert category["name"] == "bird"
    boxes = [each["bbox"] for each in coco.loadAnns(coco.getAnnIds(imgIds=[1]))]
    assert boxes == [[50.0, 50.0, 100.0, 50.0]] * 2


async def test_voc_fits_its_schema(site: JobSite) -> None:
    """C-S2-057."""
    job, _ = await done(site)
    schema = xmlschema.XMLSchema(str(Path(__file__).with_name("voc.xsd")))
    for each in (await data(site, f"/api/v1/jobs/{job}/results?format=voc"))["files"]:
        schema.validate(each["xml"])
        downloaded = await site.console.get(each["download_url"])
        assert (downloaded.headers["Content-Type"], downloaded.body.decode()) == ("application/xml", each["xml"])
    first = schema.decode((await data(site, f"/api/v1/jobs/{job}/results?format=voc"))["files"][0]["xml"])
    assert first["object"][0]["bndbox"] == {"xmin": 51, "ymin": 51, "xmax": 150, "ymax": 100}


async def test_a_zip_has_one_label_file_per_picture_and_no_paths(site: JobSite) -> None:
    """C-S2-124."""
    files = [("../../etc/passwd.jpg", picture(seed=1)), ("a.jpg", picture(seed=2)), ("A.png", picture("PNG", seed=3))]
    job, _, frames = await job_of(site, *files)
    await site.answer(*frames)
    response = await site.console.get(f"/api/v1/jobs/{job}/results.zip")
    assert response.headers["Content-Disposition"] == f'attachment; filename="{job}-yolo.zip"'
    archive = zipfile.ZipFile(io.BytesIO(response.body))
    assert archive.testzip() is None
    assert archive.namelist() == ["passwd.txt", "a.txt", "A-2.txt", "classes.txt"]
    assert archive.read("classes.txt") == b"bird\n"
    for wanted, names in (("voc", 3), ("coco", 1), ("json", 1)):
        body = (await site.console.get(f"/api/v1/jobs/{job}/results.zip?format={wanted}")).body
        assert len(zipfile.ZipFile(io.BytesIO(body)).namelist()) == names


async def test_names_in_a_zip_are_files_on_every_system(site: JobSite) -> None:
    """Also with names of Windows' devices, of 255 bytes, right to left, and that of the list of classes."""
    names = [
        "classes.jpg",
        "CON.jpg",
        "com1.tar.jpg",
        "\u4e16" * 84 + ".jpg",
        "\u202eabc.jpg",
        "con'\".jpg",
    ]
    job, _, frames = await job_of(site, *((name, picture(seed=n)) for n, name in enumerate(names)))
    await site.answer(*frames)
    archive = zipfile.ZipFile(io.BytesIO((await site.console.get(f"/api/v1/jobs/{job}/results.zip")).body))
    found = archive.namelist()
    assert found[:3] == ["classes-2.txt", "_CON.txt", "_com1.tar.txt"]
    assert all(len(name.encode()) <= 255 and name.isprintable() for name in found)
    assert archive.read("classes.txt") == b"bird\n"


@pytest.mark.parametrize("wanted", ["json", "coco"])
async def test_a_zip_has_the_document_that_results_have(site: JobSite, wanted: str) -> None:
    job, _ = await done(site, ((0.9, 0.5), (), (0.7,)))
    document = (await data(site, f"/api/v1/jobs/{job}/results?format={wanted}"))[
        "results" if wanted == "json" else "coco"
    ]
    archive = zipfile.ZipFile(
        io.BytesIO((await site.console.get(f"/api/v1/jobs/{job}/results.zip?format={wanted}")).body)
    )
    packed = json.loads(archive.read(f"{job}.json"))
    assert (packed["data"]["results"] if wanted == "json" else packed) == document
    if wanted == "coco":
        assert [(each["id"], each["image_id"]) for each in document["annotations"]] == [(1, 1), (2, 1), (3, 3)]


async def test_large_results_are_written_in_other_threads(site: JobSite, monkeypatch: pytest.MonkeyPatch) -> None:
    """A file with 33,000 detections takes more than a second, in which nobody else may wait."""
    threads: list[threading.Thread] = []

    def traced(function: Callable[..., Any]) -> Callable[..., Any]:
        def call(*args: Any) -> Any:
            threads.append(threading.current_thread())
            return function(*args)

        return call

    for name in ("as_json", "as_yolo", "as_voc"):
        monkeypatch.setattr(routes, name, traced(getattr(routes, name)))
    monkeypatch.setattr(comparer, "compare", traced(comparer.compare))
    job, ids = await done(site)
    for path in (
        *(f"results?format={wanted}" for wanted in ("json", "yolo", "voc", "coco")),
        *(f"results.zip?format={wanted}" for wanted in ("yolo", "voc", "json")),
        *(f"results/{ids[0]}/labels.{ending}" for ending in ("txt", "xml")),
        f"compare/{job}",
    ):
        assert (await site.console.get(f"/api/v1/jobs/{job}/{path}")).status == 200, path
    assert len(threads) > 10
    assert threading.main_thread() not in threads


async def test_comparisons_that_are_too_large_are_refused(site: JobSite, monkeypatch: pytest.MonkeyPatch) -> None:
    job, _ = await done(site)
    monkeypatch.setattr(compare, "_MOST_PAIRS", 3)
    response = await site.console.get(f"/api/v1/jobs/{job}/compare/{job}")
    assert (response.status, response.code, response.json["field"]) == (400, "INVALID_CONFIG", "iou")
    assert "b 0.jpg: more than 3 pairs of boxes overlap by 0.5 or more" in response.json["message"]
    monkeypatch.setattr(comparer, "_MOST_DETECTIONS", 3)
    response = await site.console.get(f"/api/v1/jobs/{job}/compare/{job}")
    assert (response.code, response.json["field"]) == ("INVALID_CONFIG", "other_id")
    monkeypatch.setattr(comparer, "_WAITING", 0)
    monkeypatch.setattr(comparer, "_MOST_DETECTIONS", 4)
    assert (await site.console.get(f"/api/v1/jobs/{job}/compare/{job}")).status == 503


async def test_results_before_the_end_and_wrong_parameters_have_their_codes(site: JobSite) -> None:
    """C-S2-058, C-S2-059, C-S2-065."""
    job, ids, frames = await job_of(site, ("a.jpg", picture()), ("b.jpg", picture(seed=2)))
    for path in (f"jobs/{job}/results", f"jobs/{job}/visualization", f"files/{ids[0]}/annotated"):
        response = await site.console.get(f"/api/v1/{path}")
        assert (response.status, response.code) == (404, "RESULTS_NOT_READY")
        assert response.json["details"]
    await site.answer(*frames)
    other = await site.console.other_client()
    for path, status, code, key in (
        (f"jobs/{job}/results?format=xml", 400, "INVALID_CONFIG", ""),
        (f"jobs/{job}/visualization?format=png", 400, "INVALID_CONFIG", ""),
        (f"jobs/{job}/results?file_id=img_0000", 404, "FILE_NOT_FOUND", ""),
        (f"jobs/{job}/results?file_id=%00", 404, "FILE_NOT_FOUND", ""),
        ("jobs/job_00000000/results", 404, "JOB_NOT_FOUND", ""),
        ("jobs/job_%00/results", 404, "JOB_NOT_FOUND", ""),
        (f"jobs/{job}/results", 404, "JOB_NOT_FOUND", other),
        (f"jobs/{job}/results.zip", 404, "JOB_NOT_FOUND", other),
        (f"files/{ids[0]}/annotated?job_id={job}", 404, "JOB_NOT_FOUND", other),
        (f"files/{ids[0]}/thumbnail", 404, "RESULTS_NOT_READY", other),
    ):
        response = await site.console.get(f"/api/v1/{path}", key=key)
        assert (response.status, response.code) == (status, code), path


@pytest.mark.parametrize("scores", [(0.5,), ()])
async def test_classes_are_those_of_the_model_and_of_rules_not_those_found(
    site: JobSite, scores: tuple[float, ...]
) -> None:
    """A job without detections had an empty list, and one with the last class blank lines before it."""
    job, _, frames = await job_of(site, ("a.jpg", picture(seed=1)), ("b.jpg", picture(seed=2)))
    names = ["vehicle", "boat", "person", "bird", "swan"]
    for frame in frames:
        event = answer_of(frame, scores)
        found = [each.model_copy(update={"class_id": 3}) for each in event.detections]
        await site.sink.write([event.model_copy(update={"detections": found, "classes": names})])
    packed = await site.console.get(f"/api/v1/jobs/{job}/results.zip")
    assert zipfile.ZipFile(io.BytesIO(packed.body)).read("classes.txt").decode().splitlines() == names
    document = (await data(site, f"/api/v1/jobs/{job}/results?format=coco"))["coco"]
    assert document["categories"] == [{"id": number, "name": name} for number, name in enumerate(names)]


async def test_results_of_a_cancelled_job_are_those_of_its_done_files(site: JobSite) -> None:
    """They could be reached no more, and a retry does only the other files."""
    job, ids, frames = await job_of(site, *((f"{n}.jpg", picture(seed=n)) for n in range(3)))
    await site.answer(frames[0])
    await site.fail(frames[1])
    assert (await site.console.post(f"/api/v1/jobs/{job}/cancel")).status == 200
    found = await data(site, f"/api/v1/jobs/{job}/results")
    assert [(each["file_id"], each["detection_count"]) for each in found["results"]] == [(ids[0], 1), (ids[1], 0)]
    packed = await site.console.get(f"/api/v1/jobs/{job}/results.zip")
    assert zipfile.ZipFile(io.BytesIO(packed.body)).namelist() == ["0.txt", "1.txt", "classes.txt"]
    document = (await data(site, f"/api/v1/jobs/{job}/results?format=coco"))["coco"]
    assert [each["file_id"] for each in document["images"]] == ids[:2]
    for path in (f"files/{ids[0]}/annotated", f"files/{ids[0]}/annotated?job_id={job}"):
        assert (await site.console.get(f"/api/v1/{path}")).status == 200, path
    open_file = await site.console.get(f"/api/v1/jobs/{job}/results?file_id={ids[2]}")
    assert (open_file.status, open_file.code) == (404, "RESULTS_NOT_READY")
    assert open_file.json["message"] == f"job {job} was cancelled before 2.jpg was done"
    # The result of a file that a detector had belongs to the job, also when it comes later.
    await site.answer(frames[2])
    assert len((await data(site, f"/api/v1/jobs/{job}/results"))["results"]) == 3


async def test_a_job_cancelled_before_its_first_result_has_none(site: JobSite) -> None:
    job, _, _ = await job_of(site, ("a.jpg", picture()))
    await site.console.post(f"/api/v1/jobs/{job}/cancel")
    response = await site.console.get(f"/api/v1/jobs/{job}/results")
    assert (response.status, response.code) == (404, "RESULTS_NOT_READY")
    assert response.json["details"] == f"POST /api/v1/jobs/{job}/retry makes a job of what was not done."


async def test_two_jobs_are_compared_in_the_pictures_that_both_have(site: JobSite) -> None:
    """C-S2-128."""
    jobs = []
    for names, scores in ((("a.jpg", "b.jpg"), (0.9, 0.8)), (("renamed.jpg",), (0.7,))):
        files = [(name, picture(seed=number)) for number, name in enumerate(names)]
        job, _, frames = await job_of(site, *files)
        await site.answer(*frames, scores=scores)
        jobs.append(job)
    found = await data(site, f"/api/v1/jobs/{jobs[0]}/compare/{jobs[1]}")
    counts = ("files_compared", "files_only_first", "files_only_second", "both", "only_first", "only_second")
    assert [found[name] for name in counts] == [1, 1, 0, 1, 1, 0]
    assert found["files"][0]["only_first"][0]["class_name"] == "bird"
    assert (await site.console.get(f"/api/v1/jobs/{jobs[0]}/compare/{jobs[1]}?iou=2")).code == "INVALID_CONFIG"


async def test_json_names_the_rules_that_decided_and_their_problem(site: JobSite) -> None:
    files = [(f"{n}.jpg", picture("JPEG", WIDTH, HEIGHT, seed=n)) for n in range(2)]
    job, _, frames = await job_of(site, *files)
    reports = [
        RulesReport(file="job", sha256="0" * 64, engine="swi 9", elapsed_ms=1.0, dropped_by_rule={"small": 2}),
        RulesReport(file="job", sha256="0" * 64, engine="swi 9", elapsed_ms=1.0, problem="line 3, rule round: …"),
    ]
    rule = RuleApplied(name="herd", ruling="confirmed")
    for frame, report in zip(frames, reports, strict=True):
        event = answer_of(frame)
        kept = [each.model_copy(update={"rule": None if report.problem else rule}) for each in event.detections]
        await site.sink.write([event.model_copy(update={"rules": report, "detections": kept})])
    ruled, failed = (await data(site, f"/api/v1/jobs/{job}/results"))["results"]
    assert ruled["rules"] == {"file": "job", "sha256": "0" * 64, "dropped_by_rule": {"small": 2}, "problem": None}
    assert [each["rule"] for each in ruled["detections"]] == [{"name": "herd", "ruling": "confirmed"}]
    assert failed["rules"]["problem"] == "line 3, rule round: …"
    assert [each.get("rule") for each in failed["detections"]] == [None]
