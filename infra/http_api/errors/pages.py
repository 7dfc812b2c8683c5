"""Serves a page about each error code, to which ``documentation_url`` of errors leads."""

from __future__ import annotations

from collections.abc import Mapping
from html import escape

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import HTMLResponse, Response
from starlette.routing import Route

from infra.http_api.errors.codes import ErrorCode
from infra.process.error_body import ERRORS_PATH

_HEADERS = {
    "Content-Security-Policy": "default-src 'none'; style-src 'unsafe-inline'; frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
}
_STYLE = (
    "body{font:16px/1.5 system-ui,sans-serif;max-width:44rem;margin:3rem auto;padding:0 1rem;color:#1c2733}"
    "code{font-family:ui-monospace,monospace}dt{font-weight:600;margin-top:1rem}dd{margin:0}a{color:#0b5cad}"
)


def add_error_pages(app: Starlette, codes: Mapping[str, ErrorCode]) -> None:
    """Add the pages about ``codes`` to ``app``: a list of all, and one for each."""

    def page(title: str, body: str) -> Response:
        return HTMLResponse(
            f'<!doctype html><html lang="en"><head><meta charset="utf-8"><title>{escape(title)}</title><meta '
            f'name="viewport" content="width=device-width, initial-scale=1"><style>{_STYLE}</style></head><body>'
            f"<h1>{escape(title)}</h1>{body}</body></html>",
            headers=_HEADERS,
        )

    async def listed(_: Request) -> Response:
        entries = (
            f"<dt><a href='{ERRORS_PATH}/{code}'><code>{code}</code></a></dt><dd>{escape(about.meaning)}</dd>"
            for code, about in sorted(codes.items())
        )
        return page("Error codes", f"<dl>{''.join(entries)}</dl>")

    async def one(request: Request) -> Response:
        code = request.path_params["code"]
        about = codes.get(code)
        if about is None:
            raise HTTPException(404, f"there is no such error code; {ERRORS_PATH} lists all")
        return page(
            code,
            f"<dl><dt>Status</dt><dd>{about.status}</dd><dt>What it means</dt><dd>{escape(about.meaning)}</dd>"
            f"<dt>What to do</dt><dd>{escape(about.advice)}</dd></dl><p><a href='{ERRORS_PATH}'>All codes</a></p>",
        )

    app.router.routes.extend((Route(ERRORS_PATH, listed), Route(f"{ERRORS_PATH}/{{code}}", one)))
