"""Serves the pages /docs and /redoc, whose programs come from a package and not from the internet."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path

from fastapi import FastAPI
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import FileResponse, Response
from starlette.routing import Route

from infra.errors import SettingsError

DOCS_PATH = "/docs"
REDOC_PATH = "/redoc"
ASSETS_PATH = "/docs/assets/{name}"
_SETTINGS = 'url: "openapi.json", dom_id: "#page", deepLinking: true, validatorUrl: null, layout: "BaseLayout"'
_SCRIPTS = {
    "start-docs.js": f"SwaggerUIBundle({{{_SETTINGS}, presets: [SwaggerUIBundle.presets.apis]}});\n",
    "start-redoc.js": 'Redoc.init("openapi.json", {}, document.getElementById("page"));\n',
}
_FILES = {
    "swagger-ui-bundle.js": "text/javascript",
    "swagger-ui.css": "text/css",
    "redoc.standalone.js": "text/javascript",
    "favicon.png": "image/png",
}
# Redoc makes its styles, and its worker for the search, while it runs; no script but ours and the package's runs.
_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self' 'unsafe-inline'; img-src 'self' data:; font-src 'self' "
    "data:; connect-src 'self'; worker-src 'self' blob:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
_HEADERS = {
    "Content-Security-Policy": _POLICY,
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
}
_ASSET_HEADERS = {"Cache-Control": "public, max-age=3600", "X-Content-Type-Options": "nosniff"}


def add_pages(app: FastAPI) -> None:
    """Add the pages and their assets. Raises SettingsError when the package with the assets is not installed."""
    folder = _assets_folder()

    def page(title: str, style: str, *scripts: str) -> Response:
        body = (
            f'<!doctype html><html lang="en"><head><meta charset="utf-8"><title>{title}</title>'
            f'<meta name="viewport" content="width=device-width, initial-scale=1">{style}'
            '<link rel="icon" type="image/png" href="docs/assets/favicon.png"></head><body><div id="page"></div>'
            + "".join(f'<script src="docs/assets/{name}"></script>' for name in scripts)
            + "</body></html>"
        )
        return Response(body, media_type="text/html", headers=_HEADERS)

    async def docs(_: Request) -> Response:
        style = '<link rel="stylesheet" href="docs/assets/swagger-ui.css">'
        return page(f"{app.title}: API", style, "swagger-ui-bundle.js", "start-docs.js")

    async def redoc(_: Request) -> Response:
        return page(f"{app.title}: API reference", "", "redoc.standalone.js", "start-redoc.js")

    async def asset(request: Request) -> Response:
        name: str = request.path_params["name"]
        if name in _SCRIPTS:
            return Response(_SCRIPTS[name], media_type="text/javascript", headers=_ASSET_HEADERS)
        if name not in _FILES:
            raise HTTPException(404, "the pages have no such file")
        return FileResponse(folder / name, media_type=_FILES[name], headers=_ASSET_HEADERS)

    routes = {DOCS_PATH: docs, REDOC_PATH: redoc, ASSETS_PATH: asset}
    app.router.routes.extend(Route(path, serve) for path, serve in routes.items())


def _assets_folder() -> Path:
    # Only its files are used: importing it would change nothing, but cost time at each start.
    spec = find_spec("fastapi_offline")
    if spec is None or spec.origin is None:
        raise SettingsError("the assets of /docs are missing; install the extra server of standgale again")
    return Path(spec.origin).parent / "static"
