"""Makes JSON responses."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import orjson
from starlette.responses import Response


def json_response(body: Mapping[str, Any], status: int = 200) -> Response:
    """Return the response with ``body``."""
    return Response(orjson.dumps(body), status, media_type="application/json")
