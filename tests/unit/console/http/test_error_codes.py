"""Every code that a client may get is explained, in the pages of the service and in the docs."""

from __future__ import annotations

import importlib
import pkgutil

import console
import infra.http_api
import ingest
from console.http.error_codes import CONSOLE_CODES
from infra.http_api.errors.api_errors import ApiError
from infra.http_api.errors.codes import GENERAL_CODES, codes_markdown
from infra.http_api.errors.texts import UNAVAILABLE_CODES
from ingest.gateway.error_codes import GATEWAY_CODES
from ingest.images.check import ImageError
from tests.paths import ROOT


def subclasses(kind: type[Exception]) -> set[type[Exception]]:
    found = set(kind.__subclasses__())
    return found | {deeper for each in found for deeper in subclasses(each)}


def codes_of(package: str) -> set[str]:
    kinds = subclasses(ApiError) | subclasses(ImageError)
    return {str(kind.code) for kind in kinds if kind.__module__.partition(".")[0] == package and "code" in vars(kind)}


def import_all(package: object) -> None:
    for module in pkgutil.walk_packages(package.__path__, f"{package.__name__}."):  # type: ignore[attr-defined]
        importlib.import_module(module.name)


def test_each_error_class_of_any_api_has_its_code_explained() -> None:
    import_all(infra.http_api)
    assert codes_of("infra") | set(UNAVAILABLE_CODES) <= set(GENERAL_CODES)


def test_each_error_class_of_the_gateway_has_its_code_explained() -> None:
    import_all(ingest)
    assert codes_of("ingest") | set(GENERAL_CODES) <= set(GATEWAY_CODES)


def test_each_error_class_of_the_console_has_its_code_explained() -> None:
    import_all(console)
    assert codes_of("console") | set(GATEWAY_CODES) <= set(CONSOLE_CODES)


def test_the_page_in_the_docs_has_all_codes() -> None:
    """C-S2-075."""
    assert (ROOT / "docs" / "errors.md").read_text().endswith(codes_markdown(CONSOLE_CODES))
