"""Does one inference job: loads the model, detects in each picture, writes the results, and posts them."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import aclosing
from pathlib import Path
from tempfile import TemporaryDirectory

from detectors.errors import ModelLoadError
from infra.errors import TransientError
from infra.failure.error_texts import error_text
from infra.storage.objects import ObjectMissingError, ObjectTooLargeError
from infra.storage.open_objects import open_objects, require_s3
from infra.storage.s3_address import S3Address
from infra.telemetry.logs import add_secrets_to_mask
from schemas.errors import StandgaleError
from schemas.events import DetectOptions
from standgale.inference.checkpoint import MODEL_FOLDER, card_of
from standgale.inference.detection import PictureDetector
from standgale.inference.errors import JobFailedError, NotDeliveredError
from standgale.inference.report import ImageResult, completed_body, deliver, failed_body
from standgale.inference.storage import JobStorage
from standgale.inference.variables import Callback, JobVariables, Place, read_callback, read_variables
from standgale.settings import Settings

logger = logging.getLogger(__name__)

_HINT = "AWS_ENDPOINT_URL, AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, and what the key may do: list, get and put"
# How long the call-back of a failure is tried: there is no result that could be lost.
_FAILURE_TIMEOUT_S = 60.0


async def run_job(settings: Settings, environ: Mapping[str, str]) -> None:
    """Do the job that ``environ`` describes; return when the results are written and the call-back was taken.

    Whatever fails is reported by the call-back, and raised. A job that is stopped reports nothing.
    """
    callback = read_callback(environ)
    if callback is not None and callback.token is not None:
        add_secrets_to_mask([callback.token.get_secret_value()])
    try:
        variables = read_variables(environ)
        if in_s3 := variables.in_s3:
            require_s3(", ".join(in_s3))
        body = await _results_of(settings, variables)
        await deliver(variables.callback, body, settings.retry, settings.inference_jobs.callback_timeout_s)
    except NotDeliveredError as error:
        # Where the receiver was away, the job is still running for it, and the results are written.
        if error.refused:
            await _report_failure(settings, callback, f"the call-back did not take the results: {error}")
        raise
    except Exception as error:
        await _report_failure(settings, callback, error_text(error))
        raise
    logger.info("the call-back was taken", extra={"job": variables.job_id})


async def _report_failure(settings: Settings, callback: Callback | None, message: str) -> None:
    if callback is None:
        return
    try:
        await deliver(callback, failed_body(message), settings.retry, _FAILURE_TIMEOUT_S)
    except NotDeliveredError as error:
        logger.error("the failure was not reported: %s", error)


async def _results_of(settings: Settings, variables: JobVariables) -> bytes:
    """Detect in all pictures, and write the results; return the body of the call-back."""
    objects = open_objects(variables.s3, _HINT) if variables.in_s3 else None
    try:
        with TemporaryDirectory(prefix="standgale-inference-") as scratch:
            storage = JobStorage(objects, Path(scratch), settings.retry)
            await storage.require_writable(variables.output)
            pictures = await storage.pictures(variables.images, variables.output, settings.inference_jobs.max_images)
            try:
                card = await card_of(variables.checkpoint, storage, settings)
                detector = await asyncio.to_thread(_load, settings, variables, card)
            except (ModelLoadError, ObjectMissingError, ObjectTooLargeError) as error:
                where = str(error).replace(f"{scratch}/{MODEL_FOLDER}/", f"{variables.checkpoint.rpartition('/')[0]}/")
                raise JobFailedError(f"CHECKPOINT_PATH: {where}") from error
            results = await _detected(detector, storage, pictures, settings.inference_jobs.max_image_bytes)
            if all(each.error is not None for each in results):
                first = results[0]
                raise JobFailedError(f"not one of {len(results)} pictures has a result; {first.path}: {first.error}")
            body = completed_body(results)
            where = await storage.write(variables.output, body)
    finally:
        if objects is not None:
            await objects.close()
    logger.info("the results are in %s", where, extra={"job": variables.job_id, "pictures": len(results)})
    return body


def _load(settings: Settings, variables: JobVariables, card: Path) -> PictureDetector:
    options = DetectOptions(confidence=variables.confidence, iou=variables.iou, max_detections=variables.max_detections)
    return PictureDetector(settings, card, options)


async def _detected(
    detector: PictureDetector, storage: JobStorage, pictures: Sequence[Place], most_bytes: int
) -> list[ImageResult]:
    results: list[ImageResult] = []
    try:
        async with aclosing(_fetched(storage, pictures, most_bytes)) as fetched:
            async for place, path in fetched:
                results.append(await _result(detector, place, path))
    finally:
        await asyncio.to_thread(detector.close)
    return results


async def _fetched(
    storage: JobStorage, pictures: Sequence[Place], most_bytes: int
) -> AsyncGenerator[tuple[Place, Path | StandgaleError], None]:
    """Yield each picture as a file, or why it cannot be read; the next one is fetched meanwhile."""

    async def fetch(place: Place) -> Path | StandgaleError:
        try:
            return await storage.fetch(place, most_bytes)
        except TransientError:
            # It is not this picture: none could be read.
            raise
        except StandgaleError as error:
            return error

    coming = asyncio.create_task(fetch(pictures[0]))
    try:
        for number, place in enumerate(pictures, start=1):
            path = await coming
            if number < len(pictures):
                coming = asyncio.create_task(fetch(pictures[number]))
            yield place, path
            if isinstance(path, Path) and isinstance(place, S3Address):
                path.unlink(missing_ok=True)
    finally:
        coming.cancel()
        await asyncio.gather(coming, return_exceptions=True)


async def _result(detector: PictureDetector, place: Place, path: Path | StandgaleError) -> ImageResult:
    if isinstance(path, StandgaleError):
        return ImageResult(str(place), (), None, str(path).removeprefix(f"{place}: "))
    try:
        predictions, time_ms = await asyncio.to_thread(detector.detect, path)
    except TransientError:
        raise
    except StandgaleError as error:
        logger.warning("%s has no result: %s", place, error, extra={"code": error.code})
        return ImageResult(str(place), (), None, str(error).removeprefix(f"{path}: ").replace(str(path), str(place)))
    return ImageResult(str(place), predictions, time_ms)
