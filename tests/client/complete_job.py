"""Completes a job by the client that was generated from the OpenAPI document, and prints what came.

Arguments: the address of the service, an API key, and a picture. It runs in the environment of the generator.
"""

import json
import sys
import time
from pathlib import Path

from standgale_console_client import AuthenticatedClient
from standgale_console_client.api.jobs import jobs_predict, jobs_status
from standgale_console_client.api.results import results_archive, results_labels, results_results, results_thumbnail
from standgale_console_client.api.uploads import uploads_original, uploads_upload
from standgale_console_client.models import (
    JobConfig,
    PredictRequest,
    ResultsArchiveFormat,
    ResultsResultsFormat,
    UploadsUploadBody,
)
from standgale_console_client.types import File

address, key, name = sys.argv[1:]
client = AuthenticatedClient(address, key)
picture = Path(name)
with picture.open("rb") as opened:
    sent = uploads_upload.sync(
        client=client, body=UploadsUploadBody([File(opened, picture.name, mime_type="image/jpeg")])
    ).data
file_id = sent.uploaded_files[0].file_id
asked = PredictRequest(sent.upload_id, config=JobConfig(confidence_threshold=0.3))
job_id = jobs_predict.sync(client=client, body=asked).data.job_id
early = results_results.sync(job_id, client=client).error.code
until = time.monotonic() + 60
while (job := jobs_status.sync(job_id, client=client).data).status in ("queued", "processing"):
    if time.monotonic() > until:
        sys.exit(f"the job is {job.status}")
    time.sleep(0.05)
found = results_results.sync(job_id, client=client, format_=ResultsResultsFormat.JSON).data
archive = results_archive.sync(job_id, client=client, format_=ResultsArchiveFormat.VOC)
print(
    json.dumps(
        {
            "early": early,
            "status": job.status,
            "found": job.summary.total_detections,
            "labels": results_labels.sync(job_id, file_id, client=client),
            "results": found.results[0].detections[0].class_name,
            "is_same": uploads_original.sync(file_id, client=client).payload.read() == picture.read_bytes(),
            "thumbnail": results_thumbnail.sync(file_id, client=client).payload.read(2).hex(),
            "archive": archive.payload.read(2).decode(),
        }
    )
)
