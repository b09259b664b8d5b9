"""Writes docs/compat.md: every part of the Docker API, and what becomes of it here.

    .venv/bin/python tools/compat.py            # write it
    .venv/bin/python tools/compat.py --check    # fail if it is out of date

Read from the API's OpenAPI description, from the engine's routes and the code behind them, and from tools/compat_statuses.py; what is said
of layers, from tools/compat_layers.py.
"""

from __future__ import annotations

import ast
import inspect
import re
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import yaml
from compat_layers import LAYERS
from compat_statuses import OPERATIONS, OWN, PARAMETERS, PROPERTIES, Entry, Status

from teul.api import unsupported
from teul.api.app import Router, routes

PROJECT = Path(__file__).resolve().parents[1]
SPECIFICATION = PROJECT / "tests" / "conformance" / "openapi" / "docker-engine-api-v1.51.yaml"
PAGE = PROJECT / "docs" / "compat.md"
SWARM = ("/swarm", "/nodes", "/services", "/tasks", "/secrets", "/configs", "/plugins")
# The documents of a request to create a container: from the whole to the parts.
SCHEMAS = ("ContainerConfig", "HostConfig", "Resources", "HealthConfig", "EndpointSettings", "EndpointIPAMConfig", "Mount")
_METHODS = ("get", "head", "post", "put", "delete")


@dataclass(frozen=True, slots=True, kw_only=True)
class Operation:
    """One method of one path. `parameters`: those of the query."""

    method: str
    path: str
    summary: str
    parameters: tuple[str, ...]

    @property
    def key(self) -> str:
        return f"{self.method} {self.path}"

    @property
    def example(self) -> str:
        """The path with every variable filled in."""
        return re.sub(r"\{\w+\}", "any", self.path)


@cache
def load_specification() -> dict[str, Any]:
    """The OpenAPI description as it is."""
    with SPECIFICATION.open("rb") as file:
        document: dict[str, Any] = yaml.load(file, Loader=getattr(yaml, "CSafeLoader", yaml.SafeLoader))
    return document


def iter_operations() -> Iterator[Operation]:
    """Everything that is not of Swarm or of plugins, in the description's order."""
    for path, operations in load_specification()["paths"].items():
        if path.startswith(SWARM):
            continue
        for method in _METHODS:
            if (operation := operations.get(method)) is not None:
                yield Operation(
                    method=method.upper(),
                    path=path,
                    summary=operation["summary"],
                    parameters=tuple(item["name"] for item in operation.get("parameters", ()) if item.get("in") == "query"),
                )


def properties_of(schema: str) -> tuple[str, ...]:
    """The properties of a definition, those that it includes from another one left out: they are listed with that."""
    definition = load_specification()["definitions"][schema]
    parts = [definition, *(part for part in definition.get("allOf", ()) if "$ref" not in part)]
    return tuple(name for part in parts for name in part.get("properties", ()))


def judge_operation(operation: Operation, router: Router) -> Entry:
    """What becomes of a request: from the table, else from the route that it takes."""
    if operation.key in OPERATIONS:
        return OPERATIONS[operation.key]
    found = router.find(operation.method, operation.example)
    is_there = found is not None and found[0].__module__ != unsupported.__name__
    return Entry(status=Status.HONOURED if is_there else Status.NOT_YET)


def judge_parameter(operation: Operation, name: str, router: Router) -> Entry | None:
    """From the table, else from the code behind the route; None if neither says anything."""
    if (entry := PARAMETERS.get(f"{operation.key}?{name}")) is not None:
        return entry
    whole = judge_operation(operation, router)
    if whole.status in {Status.NOT_YET, Status.REFUSED}:
        return Entry(status=whole.status)
    found = router.find(operation.method, operation.example)
    if found is None or name not in _strings_behind(found[0]):
        return Entry(status=Status.NOT_YET) if found is None or found[0].__module__ == unsupported.__name__ else None
    return Entry(status=Status.HONOURED)


def judge_property(schema: str, name: str) -> Entry:
    """From the table; what it does not mention is honoured (that the code reads it is for the tests to prove)."""
    return PROPERTIES.get(schema, {}).get(name, Entry(status=Status.HONOURED))


def render() -> str:
    """The page."""
    router = Router(routes())
    operations = list(iter_operations())
    entries = [judge_operation(operation, router) for operation in operations]
    lines = [
        "# What of the Docker API works",
        "",
        "Made by `tools/compat.py` from the OpenAPI description of the Docker Engine API 1.51, the engine's routes, and a table that the",
        "tests put to the proof (`tests/unit/test_compat.py`, `tests/conformance/openapi`). Swarm and plugins are left out: none is here.",
        "",
        "- **honoured**: does what it does in dockerd.",
        "- **partly**: the note says what of it; the rest is refused with an error that says so.",
        "- **without effect**: accepted; does nothing, in dockerd on Linux neither or for the reason in the note.",
        "- **refused**: an error, as from a dockerd on Linux without extras.",
        "- **not yet**: an error, status 501 (404 where there is nothing that could be found).",
        "",
        "## Paths",
        "",
        f"{_tally(entries)}.",
        "",
        "| path | status | query parameters |",
        "|---|---|---|",
    ]
    for operation, entry in zip(operations, entries, strict=True):
        parameters = ", ".join(_parameter(operation, name, router) for name in operation.parameters)
        lines.append(f"| `{operation.key}` | {_status(entry)} | {parameters} |")
    lines += ["", "Of query parameters, the status is told where it is not the path's."]
    lines += [
        "",
        "## Paths of Teul's own",
        "",
        "All below `/teul/`, where Docker's API has none.",
        "",
        "| path | what it does |",
        "|---|---|",
    ]
    lines += [f"| `{method} {path}` | {OWN[f'{method} {path}']} |" for method, path, _ in routes() if path.startswith("/teul/")]
    lines += ["", "## The request to create a container"]
    for schema in SCHEMAS:
        names = properties_of(schema)
        lines += ["", f"### {schema}", "", f"{_tally([judge_property(schema, name) for name in names])}.", ""]
        lines += ["| property | status |", "|---|---|"]
        lines += [f"| `{name}` | {_status(judge_property(schema, name))} |" for name in names]
    lines += [
        "",
        "## Layers",
        "",
        "The files of an image are those that dockerd unpacks from the same archives, in every respect, except for:",
    ]
    lines += ["", "| in the archive | here |", "|---|---|"]
    lines += [f"| {what} | {difference} |" for what, difference in LAYERS]
    return "\n".join(lines) + "\n"


def main(arguments: list[str]) -> int:
    page = render()
    if arguments == ["--check"]:
        if PAGE.read_text() != page:
            print("docs/compat.md is out of date: run tools/compat.py", file=sys.stderr)
            return 1
        return 0
    PAGE.write_text(page)
    return 0


def _parameter(operation: Operation, name: str, router: Router) -> str:
    entry, whole = judge_parameter(operation, name, router), judge_operation(operation, router)
    if entry is None:
        raise SystemExit(f"tools/compat_statuses.py says nothing about {operation.key}?{name}, and the code does not read it")
    same = entry.status is whole.status or (entry.status is Status.HONOURED and whole.status is Status.PARTLY)
    return f"`{name}`" if same and not entry.note else f"`{name}` ({_status(entry)})"


def _status(entry: Entry) -> str:
    return f"{entry.status}: {entry.note}" if entry.note else str(entry.status)


def _tally(entries: list[Entry]) -> str:
    counts = {status: sum(entry.status is status for entry in entries) for status in Status}
    return f"Of {len(entries)}: " + ", ".join(f"{count} {status}" for status, count in counts.items() if count)


def _strings_behind(handler: Callable[..., Any]) -> frozenset[str]:
    """Every string in a handler and in what it calls of its own module."""
    functions = _functions_of(inspect.getsourcefile(handler) or "")
    seen: set[str] = set()
    strings: set[str] = set()
    waiting = [handler.__name__]
    while waiting:
        name = waiting.pop()
        if name in seen or name not in functions:
            continue
        seen.add(name)
        for node in ast.walk(functions[name]):
            if isinstance(node, ast.Constant) and isinstance(node.value, str):
                strings.add(node.value)
            elif isinstance(node, ast.Name):
                waiting.append(node.id)
            if "filters" in (getattr(node, "attr", None), getattr(node, "id", None)):
                strings.add("filters")  # api.query's reader of that name
    return frozenset(strings)


@cache
def _functions_of(path: str) -> dict[str, ast.AST]:
    tree = ast.parse(Path(path).read_text())
    return {node.name: node for node in tree.body if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef))}


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
