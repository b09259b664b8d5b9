"""docs/compat.md says of every part of Docker's API what becomes of it here, and what it says is true.

The paths and query parameters are proven beside a running engine (tests/conformance/openapi); here, the properties of a create request.
"""

from __future__ import annotations

import ast
import importlib
import sys
from functools import cache
from pathlib import Path
from typing import Any

import msgspec
import pytest

from teul.errors import InvalidParameter, NotImplementedHere, TeulError
from teul.linux.caps import CAPABILITIES
from teul.model.config import ContainerConfig, HealthConfig, decode_create_body
from teul.model.container import CreateContainer
from teul.model.document import Document
from teul.model.host_config import HostConfig, Resources
from teul.model.mount import Mount
from teul.model.network_config import EndpointIPAMConfig, EndpointSettings
from teul.services.containers.request.check import check_request
from teul.services.host import HostFacts, LimitSupport

PROJECT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(PROJECT / "tools"))
try:
    compat = importlib.import_module("compat")
    statuses = importlib.import_module("compat_statuses")
finally:
    sys.path.remove(str(PROJECT / "tools"))

Status = statuses.Status
_SHAPES: dict[str, type[Document]] = {
    "ContainerConfig": ContainerConfig,
    "HostConfig": HostConfig,
    "Resources": Resources,
    "HealthConfig": HealthConfig,
    "EndpointSettings": EndpointSettings,
    "EndpointIPAMConfig": EndpointIPAMConfig,
    "Mount": Mount,
}
# Modules that read a property to judge, complete, show or find a container act on nothing.
_COMPLETION = "teul.services.containers.request.complete"
_ONLY_LOOKING = (
    _COMPLETION,
    "teul.services.containers.request.check",
    "teul.services.containers.request.network",
    "teul.services.containers.request.resources",
    "teul.services.containers.filters",
    "teul.services.containers.errors",
)
# Outside the services: where attaching decides on streams, and the plan of a health check.
_ACTING_ELSEWHERE = ("teul.api.containers.streams", "teul.model.health")
_HOST = HostFacts(
    architecture="amd64",
    kernel=(6, 1),
    hostname="host",
    cpus=2,
    cgroup_mode="v2",
    limits=LimitSupport(),
    capabilities=tuple(CAPABILITIES),
    known_capabilities=tuple(CAPABILITIES),
    cpuset_cpus="0-1",
    cpuset_mems="0",
    sysctls=frozenset(),
)


def test_page_is_up_to_date() -> None:
    """`tools/compat.py` writes it; it fails for a query parameter that nothing is known about."""
    assert compat.PAGE.read_text() == compat.render(), "run .venv/bin/python tools/compat.py"


def test_table_names_only_what_the_api_has() -> None:
    """A property or parameter that was renamed or misspelt would be honoured by default."""
    operations = {operation.key: operation for operation in compat.iter_operations()}
    parameters = {f"{key}?{name}" for key, operation in operations.items() for name in operation.parameters}
    assert set(statuses.OPERATIONS) <= set(operations)
    assert set(statuses.PARAMETERS) <= parameters
    for schema, entries in statuses.PROPERTIES.items():
        assert set(entries) <= set(compat.properties_of(schema)), schema


def _properties(*wanted: object) -> list[Any]:
    properties = [(schema, name) for schema in compat.SCHEMAS for name in compat.properties_of(schema)]
    judged = [(schema, name, compat.judge_property(schema, name)) for schema, name in properties]
    return [pytest.param(*one, id=f"{one[0]}.{one[1]}") for one in judged if one[2].status in wanted]


@pytest.mark.parametrize(("schema", "name", "entry"), _properties(Status.HONOURED, Status.PARTLY))
def test_honoured_property_is_read_by_a_service(schema: str, name: str, entry: Any) -> None:
    """What is decoded and never looked at again is ignored, and must not be called honoured."""
    attribute = next((field.name for field in msgspec.structs.fields(_shape(schema, name)) if field.encode_name == name), None)
    assert attribute is not None, f"{schema} has no such field: the property is dropped"
    if name in {"UsernsMode", "Runtime", "Isolation"}:
        assert entry.requests, "only one value does what is done anyhow, so others are refused"
    elif (schema, name) in {("ContainerConfig", "Entrypoint"), ("ContainerConfig", "Image")}:
        assert attribute in _attributes_read((_COMPLETION,)), "becomes the record's path, arguments and image"
    else:
        assert attribute in _attributes_read(_acting()), f"no service acts on {schema}.{name}"


@pytest.mark.parametrize(("schema", "name", "entry"), _properties(Status.REFUSED, Status.NOT_YET, Status.PARTLY))
def test_refused_property_is_refused(schema: str, name: str, entry: Any) -> None:
    assert entry.requests or entry.status is Status.PARTLY, "an entry that refuses needs a request that shows it"
    kind: type[TeulError] | tuple[type[TeulError], ...] = (NotImplementedHere, InvalidParameter)
    for body in entry.requests:
        config, host_config, networking = decode_create_body(msgspec.json.encode({"Image": "busybox", **body}))
        request = CreateContainer(name=None, config=config, host_config=host_config, networking=networking)
        with pytest.raises(NotImplementedHere if entry.status is Status.NOT_YET else kind):
            check_request(request, _HOST, exists=lambda _path: True)


@pytest.mark.parametrize(("schema", "name", "entry"), _properties(Status.WITHOUT_EFFECT))
def test_property_without_effect_says_why(schema: str, name: str, entry: Any) -> None:
    assert entry.note


def _shape(schema: str, name: str) -> type[Document]:
    # The API's description puts it among the resources, dockerd's types and ours beside them.
    return HostConfig if (schema, name) == ("Resources", "Init") else _SHAPES[schema]


def test_the_modules_named_here_exist() -> None:
    """A module that was moved or renamed would otherwise stop to be looked at, or begin to, and nobody would hear of it."""
    missing = sorted({*_ONLY_LOOKING, *_ACTING_ELSEWHERE} - set(_modules()))
    assert not missing, f"tests/unit/test_compat.py names modules that are not there: {', '.join(missing)}"


def test_nothing_is_read_by_nobody() -> None:
    """The judge is judged: what no module reads is found to be read by none, and judging alone does not count."""
    assert "no_such_property" not in _attributes_read(_acting())
    assert "image_config" not in _attributes_read(("teul.services.containers.errors",))
    assert {"binds", "cap_add", "network_mode"} <= _attributes_read(_acting())
    assert len(_acting()) > len(_ONLY_LOOKING)


def _modules() -> dict[str, Path]:
    """Every module of the package by its full name."""
    source = PROJECT / "src"
    paths = (source / "teul").rglob("*.py")
    return {".".join(path.relative_to(source).with_suffix("").parts): path for path in paths if path.name != "__init__.py"}


@cache
def _acting() -> tuple[str, ...]:
    """The modules that may be what honours a property: the services that do not merely look, and a few elsewhere."""
    services = tuple(name for name in _modules() if name.startswith("teul.services.") and name not in _ONLY_LOOKING)
    return (*services, *_ACTING_ELSEWHERE)


@cache
def _attributes_read(modules: tuple[str, ...]) -> frozenset[str]:
    """The names of attributes that appear in these modules."""
    trees = [ast.parse(_modules()[name].read_text()) for name in modules]
    return frozenset(node.attr for tree in trees for node in ast.walk(tree) if isinstance(node, ast.Attribute))
