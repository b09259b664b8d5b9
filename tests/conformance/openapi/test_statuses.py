"""What docs/compat.md says of paths and query parameters is what a running engine does (properties: tests/unit/test_compat.py)."""

from __future__ import annotations

import importlib
import sys
from pathlib import Path
from typing import Any

import pytest

from support.engine import Engine
from support.needs import needs
from teul.api.app import Router, routes

TOOLS = str(Path(__file__).resolve().parents[3] / "tools")
sys.path.insert(0, TOOLS)
try:
    compat = importlib.import_module("compat")
    statuses = importlib.import_module("compat_statuses")
finally:
    sys.path.remove(TOOLS)

pytestmark = [needs("root", "busybox", "overlayfs", "docker_cli")]

Status = statuses.Status
ROUTER = Router(routes())
OPERATIONS = {operation.key: operation for operation in compat.iter_operations()}
# These would go on until the client leaves; tests/e2e/test_streams.py and test_answers.py look at them.
_ENDLESS = {"GET /events"}


def _judged(*wanted: object) -> list[Any]:
    pairs = [(operation, compat.judge_operation(operation, ROUTER)) for operation in OPERATIONS.values()]
    return [pytest.param(operation, entry, id=operation.key) for operation, entry in pairs if entry.status in wanted]


def _example(operation: Any) -> str:
    # A network that is there: others are not found, whatever is asked of them.
    return str(operation.example).replace("/networks/any", "/networks/bridge")


@pytest.mark.parametrize(("operation", "entry"), _judged(Status.NOT_YET, Status.REFUSED))
def test_refused_path_says_so(engine: Engine, operation: Any, entry: Any) -> None:
    """501 and a sentence: no client takes it for done, or for a path that no Docker ever had."""
    body = entry.requests[0] if entry.requests else None
    with engine.api(version="v1.51") as api:
        answer = api.request(operation.method, _example(operation), body)
    assert answer.status == (404 if entry.status is Status.REFUSED else 501), answer.message


@pytest.mark.parametrize(("operation", "entry"), _judged(Status.HONOURED, Status.PARTLY))
def test_honoured_path_is_there(engine: Engine, operation: Any, entry: Any) -> None:
    """Asked of something that is not there, or without a body, it answers as dockerd would: never 501, never 500."""
    if operation.key in _ENDLESS:
        pytest.skip("goes on until the client leaves")
    with engine.api(version="v1.51") as api:
        answer = api.request(operation.method, operation.example)
    assert answer.message != "page not found"
    # docker: an import without a source is one from the URL ""; and a registry that cannot be reached is a failure.
    assert answer.status < 500 or operation.key == "POST /images/create" or "docker.io" in answer.message, answer.message


@pytest.mark.parametrize("key", [key for key, entry in statuses.PARAMETERS.items() if entry.requests])
def test_refused_parameter_is_refused(engine: Engine, key: str) -> None:
    operation, entry = OPERATIONS[key.partition("?")[0]], statuses.PARAMETERS[key]
    with engine.api(version="v1.51") as api:
        name = api.expect(201, "POST", "/containers/create", {"Image": "busybox"}).json()["Id"]
        path = operation.path.replace("{id}", name)
        for query in entry.requests:
            answer = api.request(operation.method, f"{path}?{query}")
            assert answer.status == 501, answer.message
        api.request("DELETE", f"/containers/{name}")


@pytest.mark.parametrize(
    ("platform", "status"), [("linux/amd64", 201), ("linux/s390x", 404), ("*", 400)], ids=["same", "another", "malformed"]
)
def test_platform_of_a_new_container_is_looked_at(engine: Engine, platform: str, status: int) -> None:
    with engine.api(version="v1.51") as api:
        answer = api.request("POST", f"/containers/create?platform={platform}", {"Image": "busybox"})
    assert answer.status == status, answer.message
    engine.remove_containers()
