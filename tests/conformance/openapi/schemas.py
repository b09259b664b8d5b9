"""Answers against the OpenAPI description: what is missing, of another type, or unknown to it.

The description is Swagger 2.0, which is not quite JSON Schema, and dockerd does not quite keep to it; `_translate` says where.
"""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Any

import jsonschema
import yaml

SPECIFICATION = Path(__file__).with_name("docker-engine-api-v1.51.yaml")
# dockerd writes these, the description does not know them (any more): (name of the definition, property).
UNDESCRIBED = {
    ("ContainerState", "ExitCode"),
    ("EventMessage", "status"),  # of old API versions, still there and still read
    ("EventMessage", "id"),
    ("EventMessage", "from"),
}
# docker: pointers that are null where nothing is known or was said.
NULLABLE = {"Resources.MemorySwappiness", "HostConfig.MemorySwappiness", "/exec/{id}/json.ExitCode"}
_TIME = r"^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?(Z|[+-]\d\d:\d\d)$"


@cache
def load_specification() -> dict[str, Any]:
    """The description as it is."""
    with SPECIFICATION.open("rb") as file:
        document: dict[str, Any] = yaml.load(file, Loader=getattr(yaml, "CSafeLoader", yaml.SafeLoader))
    return document


def deviations(method: str, path: str, status: int, answer: Any) -> list[str]:
    """Where `answer` is not what the description says of this operation and status; empty if it is."""
    operation = load_specification()["paths"][path][method.lower()]
    described = operation["responses"].get(status)
    if described is None:
        return [f"status {status} is not described, only {', '.join(map(str, operation['responses']))}"]
    if "schema" not in described:
        return []
    schema = {**_translate(described["schema"], path), "definitions": _definitions()}
    found = jsonschema.Draft4Validator(schema).iter_errors(answer)
    return sorted(f"{'.'.join(map(str, error.absolute_path)) or '(all)'}: {error.message[:300]}" for error in found)


@cache
def _definitions() -> dict[str, Any]:
    return {name: _translate(schema, name) for name, schema in load_specification()["definitions"].items()}


def _translate(schema: dict[str, Any], name: str) -> dict[str, Any]:
    """Swagger to JSON Schema draft 4, where properties that are not described are errors."""
    if "$ref" in schema:
        return {"$ref": schema["$ref"]}
    whole = _flatten(schema)
    kind = whole.get("type", "object" if "properties" in whole else None)
    result: dict[str, Any] = {key: whole[key] for key in ("required", "pattern", "minimum", "maximum") if key in whole}
    if "enum" in whole:
        result["enum"] = list(whole["enum"])
    if "properties" in whole:
        result["properties"] = {key: _translate(value, f"{name}.{key}") for key, value in whole["properties"].items()}
        result["additionalProperties"] = False
        result["properties"] |= {key: {} for owner, key in UNDESCRIBED if owner == name and key not in whole["properties"]}
    if isinstance(whole.get("additionalProperties"), dict):
        result["additionalProperties"] = _translate(whole["additionalProperties"], f"{name}.*")
    if "items" in whole:
        result["items"] = _translate(whole["items"], f"{name}[]")
    if kind is not None:
        # docker: a nil list, map or pointer of Go's is null, whether the description says that it may be or not.
        nullable = whole.get("x-nullable", False) or kind in ("array", "object") or name in NULLABLE
        result["type"] = [kind, "null"] if nullable else kind
        if nullable and "enum" in result:
            result["enum"].append(None)
    if whole.get("format") == "dateTime":
        result["pattern"] = _TIME
    return result


def _flatten(schema: dict[str, Any]) -> dict[str, Any]:
    """`schema` with what its `allOf` lists merged in."""
    whole = {key: value for key, value in schema.items() if key != "allOf"}
    for part in schema.get("allOf", ()):
        if "$ref" in part:
            part = load_specification()["definitions"][part["$ref"].rpartition("/")[2]]  # noqa: PLW2901 - the same part, looked up
        flat = _flatten(part)
        merged: dict[str, Any] = {"properties": {**whole.get("properties", {}), **flat.get("properties", {})}}
        merged["required"] = [*whole.get("required", ()), *flat.get("required", ())]
        whole = {**flat, **whole, **{key: value for key, value in merged.items() if value}}
    return whole
