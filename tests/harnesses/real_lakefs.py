"""Makes repositories in a real LakeFS on this machine, where STANDGALE_TEST_LAKEFS_URL and its keys name one."""

from __future__ import annotations

import json
import os
from base64 import b64encode
from urllib.request import Request, urlopen
from uuid import uuid4


def real_lakefs_is_there() -> bool:
    """Return whether the environment names a real server."""
    return "STANDGALE_TEST_LAKEFS_URL" in os.environ


def create_repository() -> str:
    """Create a repository with the branch main; return its name."""
    url = os.environ["STANDGALE_TEST_LAKEFS_URL"].rstrip("/")
    key, secret = os.environ["STANDGALE_TEST_LAKEFS_ACCESS_KEY"], os.environ["STANDGALE_TEST_LAKEFS_SECRET_KEY"]
    storage = os.environ.get("STANDGALE_TEST_LAKEFS_STORAGE", "local://")
    name = f"test-{uuid4().hex[:12]}"
    body = {"name": name, "storage_namespace": storage + name, "default_branch": "main"}
    headers = {
        "Content-Type": "application/json",
        "Authorization": f"Basic {b64encode(f'{key}:{secret}'.encode()).decode()}",
    }
    request = Request(f"{url}/api/v1/repositories", json.dumps(body).encode(), headers, method="POST")
    with urlopen(request, timeout=10) as response:
        response.read()
    return name
