"""The OpenAPI 3.1 description of the studio's interface, made from the types that read its requests."""

from __future__ import annotations

from typing import Any

import msgspec

from ...core.version import __version__
from .inbox import Request
from .messages import Export, Simulate, Stop, Sweep

_ERROR: dict[str, Any] = {
    "type": "object",
    "required": ["error", "exit_code", "line"],
    "properties": {
        "error": {"type": "string"},
        "exit_code": {"type": "integer"},
        "line": {"type": ["integer", "null"]},
    },
}


def description() -> dict[str, Any]:
    """Return the description."""
    kinds = (Request, Sweep, Simulate, Export, Stop)
    _, schemas = msgspec.json.schema_components(kinds, ref_template="#/components/schemas/{name}")
    paths: dict[str, Any] = {
        "/api/preview": _post("Request", "The chosen point without an exact solve, and every knob"),
        "/api/plan": _post("Request", "The whole answer of `wattline plan`"),
        "/api/whatif": _post("Sweep", "A grid of values, as `wattline whatif --grid`"),
        "/api/simulate": _post("Simulate", "A serving scenario played step by step, as `wattline simulate`"),
        "/api/export": _post("Export", "A report, a picture, a table or the scenario as a file", media="*/*"),
        "/api/stop": _post("Stop", "Stop a task"),
        "/api/start": _get("The scenario the page opens with"),
        "/api/examples/{name}": _get("A shipped example", parameter="name", missing=True),
        "/api/progress/{task}": _get("How far a task is", parameter="task"),
        "/api/reports/{name}": _get("The page of a report", parameter="name", missing=True, media="text/html"),
        "/api/runs": _get("Measured runs of the store"),
        "/api/devices": _get("Every device now"),
    }
    return {
        "openapi": "3.1.0",
        "info": {"title": "Wattline studio", "version": __version__},
        "paths": paths,
        "components": {"schemas": {**schemas, "Error": _ERROR}},
    }


def _post(kind: str, text: str, media: str = "application/json") -> dict[str, Any]:
    refused = {"400": "not understood", "409": "stopped", "413": "too large", "415": "not JSON", "422": "no answer"}
    return {
        "post": {
            "summary": text,
            "requestBody": {
                "required": True,
                "content": {"application/json": {"schema": {"$ref": f"#/components/schemas/{kind}"}}},
            },
            "responses": {"200": {"description": "the answer", "content": {media: {"schema": {}}}}, **_errors(refused)},
        }
    }


def _get(
    text: str, parameter: str | None = None, *, missing: bool = False, media: str = "application/json"
) -> dict[str, Any]:
    out: dict[str, Any] = {
        "summary": text,
        "responses": {"200": {"description": "the answer", "content": {media: {"schema": {}}}}},
    }
    if parameter:
        out["parameters"] = [
            {"name": parameter, "in": "path", "required": True, "schema": {"type": "string", "pattern": "^[^/]+$"}}
        ]
    # Anything else that stands in a path's place is no path at all.
    if missing or parameter:
        out["responses"] |= {"404": {"description": "no such thing"}}
    return {"get": out}


def _errors(codes: dict[str, str]) -> dict[str, Any]:
    content = {"application/json": {"schema": {"$ref": "#/components/schemas/Error"}}}
    return {code: {"description": words, "content": content} for code, words in codes.items()}
