"""A client that knows of a service only what its OpenAPI document says, and holds the service to it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from jsonschema import Draft202012Validator, FormatChecker

from tests.harnesses.uploads import form
from tests.servers.console import RunningConsole


@dataclass
class DocumentClient:
    """Calls operations by their names; requests and responses have to fit the document."""

    console: RunningConsole
    document: Mapping[str, Any]
    called: set[str] = field(default_factory=set)

    def operations(self, tags: Iterable[str]) -> set[str]:
        """The names of the operations of these groups."""
        wanted = set(tags)
        return {name for name, (_, _, each) in self._all().items() if wanted & set(each.get("tags", ()))}

    def _all(self) -> dict[str, tuple[str, str, Mapping[str, Any]]]:
        return {
            each["operationId"]: (method, path, each)
            for path, methods in self.document["paths"].items()
            for method, each in methods.items()
        }

    async def call(
        self,
        operation: str,
        *,
        status: int = 200,
        body: Any = None,
        files: Iterable[tuple[str, bytes]] | None = None,
        query: Mapping[str, str] | None = None,
        **path: str,
    ) -> Any:
        """The JSON of the response, or its bytes; None without a body."""
        method, template, about = self._all()[operation]
        options: dict[str, Any] = {"params": dict(query or {})}
        assert set(options["params"]) <= {each["name"] for each in about.get("parameters", ()) if each["in"] == "query"}
        taken = about.get("requestBody", {}).get("content", {})
        if files is not None:
            assert "multipart/form-data" in taken
            options["data"] = form(files)
        if body is not None:
            self._check(taken["application/json"]["schema"], body)
            options["json"] = body
        response = await self.console.request(method.upper(), template.format(**path), **options)
        self.called.add(operation)
        assert response.status == status, response.body[:2_000]
        declared = about["responses"][str(status)]
        if not response.body:
            assert "content" not in declared
            return None
        media_type = response.headers["Content-Type"].partition(";")[0]
        schema = declared["content"][media_type]["schema"]
        if media_type != "application/json":
            assert schema["type"] == ("object" if media_type == "text/event-stream" else "string")
            return response.body
        self._check(schema, response.json)
        return response.json

    def _check(self, schema: Mapping[str, Any], value: Any) -> None:
        whole = {**schema, "components": self.document["components"]}
        Draft202012Validator(whole, format_checker=FormatChecker()).validate(value)
