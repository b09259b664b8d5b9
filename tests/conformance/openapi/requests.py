"""Requests made up from the OpenAPI description: of the described shape for the most part, and with values that nobody should send.

What a request may do is bounded, so that what a test says of its engine afterwards means something: what ends, changes or renames is
asked of the container called VICTIM and of the image VICTIM_IMAGE, never of the KEPT ones. Nothing that is created is started: with a
configuration that makes no sense, docker's own answer to that is 500.
"""

from __future__ import annotations

import io
import tarfile
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote

import msgspec
from hypothesis import strategies as st

from conformance.openapi.schemas import load_specification
from teul.api import unsupported
from teul.api.app import Router, routes

KEPT, VICTIM, VICTIM_IMAGE = "kept", "VICTIM", "victim:1"
_HARMLESS = frozenset({"attach", "attach/ws", "archive", "changes", "exec", "export", "json", "logs", "resize", "stats", "top", "wait"})
_INTEGERS = [0, 1, -1, 2, 5, 65535, 65536, 1 << 31, 1 << 32, (1 << 63) - 1, 1 << 63, 1 << 70, -(1 << 63)]
_WORDS = [
    *(
        "",
        "a",
        "kept",
        "busybox",
        "busybox:latest",
        "bridge",
        "host",
        "none",
        "container:kept",
        "default",
        "true",
        "1",
        "-1",
        "0.5",
        "no",
        "always",
    ),
    *("/", "/tmp", "/a/b", "../..", "a:b", "/tmp:/x:ro", "80/tcp", "80-90/udp", "a=b", "=", ",", "root", "0:0", "1h", "10m", "KILL", "99"),
    *("a\0b", "\n", "\udcff", "é", "٣", "x" * 300, "/x" * 2500, "9" * 5000, "65536", "9223372036854775808", "nan", "1e400"),
    *(
        "{",
        "{}",
        "[]",
        "null",
        "[" * 2000,
        '{"a":' * 2000,
        '{"label":["a=b"]}',
        '{"status":["nonsense"]}',
        '{"until":["x"]}',
        '{"a":{"b":true}}',
    ),
    *("seccomp=" + "[" * 2000, "seccomp={}", "apparmor=x", "label=a", "c 1:3 rwm", "linux/amd64", '{"os":"linux","architecture":"amd64"}'),
]
# Where the usual values would make a request wait, go to the network, or lead to somebody's else container.
_PARAMETERS = {
    "t": ["0", "x", "9" * 5000, "9223372036854775808"],
    "signal": ["KILL", "", "nonsense", "9" * 5000, "0", "65"],
    "fromSrc": ["-", ""],
    "name": ["made-1", "made-2", "", "a b", "/made-3", "9" * 5000, "a\0b", "\udcff", "x"],  # none of `_WORDS` that can be a name
    "path": ["/", "/etc", "/etc/hosts", "/none", "", "a\0b", "/x" * 2500, "/proc/1", "/bin/busybox/x", "..", "\udcff"],
}
# Without these a document gets no further than the first check.
_BASES: dict[str, dict[str, Any]] = {
    "/containers/create": {"Image": "busybox"},
    "/containers/{id}/exec": {"Cmd": ["true"]},
    "/containers/{id}/update": {},
}


@dataclass(frozen=True, slots=True, repr=False)
class Request:
    """`path` has no version; for a HEAD or GET, and where the operation has none, `body` is None."""

    method: str
    path: str
    body: bytes | None
    content_type: str

    def __repr__(self) -> str:
        return f"{self.method} {self.path[:300]} {self.content_type} {(self.body or b'')[:1000]!r}"


def make_requests() -> st.SearchStrategy[Request]:
    """Every operation that is served as often as any other, those with a large body more often, and the rest together like one."""
    router = Router(routes())
    served: list[st.SearchStrategy[Request]] = []
    rest: list[st.SearchStrategy[Request]] = []
    for path, methods in load_specification()["paths"].items():
        for name, operation in methods.items():
            method = name.upper()
            found = router.find(method, path)
            requests = _of_operation(method, path, operation.get("parameters", []))
            if found is None or found[0].__module__ == unsupported.__name__:
                rest.append(requests)
            else:
                served += [requests] * (8 if path in _BASES else 1)
    # Not `one_of`, which would take the alternatives of its alternatives for its own.
    return st.sampled_from([*served, st.one_of(rest)]).flatmap(lambda requests: requests)


def _of_operation(method: str, path: str, parameters: list[dict[str, Any]]) -> st.SearchStrategy[Request]:
    variables = [parameter for parameter in parameters if parameter["in"] == "path"]
    queries = [parameter for parameter in parameters if parameter["in"] == "query"]
    bodies = [parameter["schema"] for parameter in parameters if parameter["in"] == "body"]

    @st.composite
    def make(draw: st.DrawFn) -> Request:
        filled = path
        for variable in variables:
            filled = filled.replace("{" + variable["name"] + "}", _escape(draw(_path_value(method, path))))
        chosen = [parameter for parameter in queries if draw(st.booleans())]
        query = "&".join(f"{parameter['name']}={_escape(draw(_query_value(parameter)))}" for parameter in chosen)
        body, content_type = draw(_body(bodies[0], _BASES.get(path, {}))) if bodies and method not in ("GET", "HEAD") else (None, "")
        return Request(method, f"{filled}?{query}" if query else filled, body, content_type)

    return make()


def _path_value(method: str, path: str) -> st.SearchStrategy[str]:
    kind, _, rest = path.removeprefix("/").partition("/")
    verb = rest.partition("}/")[2]
    words = st.sampled_from(_WORDS)
    if kind == "containers":
        return st.one_of(st.just(KEPT if verb in _HARMLESS else VICTIM), words.filter(lambda word: verb in _HARMLESS or word != KEPT))
    if kind == "images":
        harmless = method == "GET"
        return st.one_of(
            st.just("busybox" if harmless else VICTIM_IMAGE), words.filter(lambda word: harmless or not word.startswith("busybox"))
        )
    return st.one_of(st.just("bridge"), words)


def _query_value(parameter: dict[str, Any]) -> st.SearchStrategy[str]:
    if (values := _PARAMETERS.get(parameter["name"])) is not None:
        return st.sampled_from(values)
    kinds: dict[str, st.SearchStrategy[str]] = {
        "boolean": st.sampled_from(["0", "1", "true"]),
        "integer": st.sampled_from(_INTEGERS).map(str),
    }
    return st.one_of(kinds.get(parameter.get("type", ""), st.sampled_from(_WORDS)), st.sampled_from(_WORDS))


def _body(schema: dict[str, Any], base: dict[str, Any]) -> st.SearchStrategy[tuple[bytes, str]]:
    if schema.get("type") == "string":
        return st.one_of(_archives(), st.binary(max_size=600)).map(lambda data: (data, "application/x-tar"))
    documents = _value(schema, depth=0).map(lambda document: {**document, **base} if isinstance(document, dict) else document).map(_encode)
    broken = st.sampled_from([b"", b"{", b"null", b"[]", b"{}x", b"\xff", b'{"a":' * 20_000, b"[" * 20_000, b'{"Image":"\\ud800"}'])
    whole = st.integers(0, 15).flatmap(lambda chance: broken if chance == 0 else documents)
    return st.tuples(whole, st.sampled_from(["application/json"] * 18 + ["text/plain", ";"]))


def _value(schema: dict[str, Any], *, depth: int) -> st.SearchStrategy[Any]:
    """What `schema` describes, and sometimes something else."""
    whole = _resolved(schema)
    other: st.SearchStrategy[Any] = st.sampled_from([None, True, 1.5, "word", [], {}, [[]], -1])
    if depth > 4:
        return other
    kind = whole.get("type", "object" if "properties" in whole else None)
    usual: st.SearchStrategy[Any]
    if kind == "object" and "properties" in whole:
        fields = {name: _later(inner, depth=depth + 1) for name, inner in whole["properties"].items()}
        usual = st.lists(st.sampled_from(sorted(fields)), max_size=3, unique=True).flatmap(
            lambda names: st.fixed_dictionaries({name: fields[name] for name in names})
        )
    elif kind == "object":
        inner = whole.get("additionalProperties")
        item = _value(inner if isinstance(inner, dict) else {"type": "string"}, depth=depth + 1)
        usual = st.dictionaries(st.sampled_from(_WORDS), item, max_size=3)
    elif kind == "array":
        usual = st.lists(_value(whole.get("items", {}), depth=depth + 1), max_size=3)
    elif kind in ("integer", "number"):
        usual = st.sampled_from(_INTEGERS)
    elif kind == "boolean":
        usual = st.booleans()
    else:
        usual = st.sampled_from([*whole.get("enum", ()), *_WORDS])
    return st.integers(0, 39).flatmap(lambda chance: other if chance == 0 else usual)


def _later(schema: dict[str, Any], *, depth: int) -> st.SearchStrategy[Any]:
    """As `_value`, worked out when it is first drawn from: schemas contain each other."""
    return st.deferred(lambda: _value(schema, depth=depth))


def _resolved(schema: dict[str, Any]) -> dict[str, Any]:
    """`schema` with its reference looked up, and the properties of all that its `allOf` lists."""
    if "$ref" in schema:
        return _resolved(load_specification()["definitions"][schema["$ref"].rpartition("/")[2]])
    parts = [_resolved(part) for part in schema.get("allOf", ())]
    if not parts:
        return schema
    return {"type": "object", "properties": {name: inner for part in parts for name, inner in part.get("properties", {}).items()}}


def _encode(document: Any) -> bytes:
    return msgspec.json.encode(_without_surrogates(document))


def _without_surrogates(value: Any) -> Any:
    """JSON has no bytes that are no text, and msgspec no integers beyond 64 bits."""
    if isinstance(value, str):
        return value.encode(errors="replace").decode()
    if isinstance(value, int) and abs(value) >= 1 << 63:
        return float(value)
    if isinstance(value, list):
        return [_without_surrogates(item) for item in value]
    if isinstance(value, dict):
        return {_without_surrogates(key): _without_surrogates(item) for key, item in value.items()}
    return value


@st.composite
def _archives(draw: st.DrawFn) -> bytes:
    """A tar archive with odd names, types and extended headers, and sometimes some of its bytes changed."""
    buffer = io.BytesIO()
    names = st.sampled_from(
        ["f", "d/f", "../f", "/f", "etc/hosts", "bin/busybox/f", ".", "n" * 300, "manifest.json", "index.json", "oci-layout"]
    )
    types = [tarfile.REGTYPE, tarfile.DIRTYPE, tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.CHRTYPE, tarfile.FIFOTYPE, b"Q"]
    keys = ["uid", "gid", "mtime", "size", "path", "linkpath", "SCHILY.xattr.user.x", "SCHILY.xattr.security.capability", "SCHILY.xattr."]
    with tarfile.open(fileobj=buffer, mode="w", format=tarfile.PAX_FORMAT) as tar:
        for _ in range(draw(st.integers(1, 3))):
            info = tarfile.TarInfo(draw(names))
            info.type, info.linkname = draw(st.sampled_from(types)), draw(names)
            info.mode = draw(st.sampled_from([0o644, 0o7777, 0]))
            values = st.sampled_from(["1", "-1", "x", "9" * 25, "a\0b", str(1 << 40), "v" * 3000])
            info.pax_headers = draw(st.dictionaries(st.sampled_from(keys), values, max_size=2))
            content = draw(st.sampled_from([b"", b"{}", b"[]", b"x" * 700])) if info.type == tarfile.REGTYPE else b""
            info.size = len(content)
            tar.addfile(info, io.BytesIO(content))
    data = bytearray(buffer.getvalue())
    for position, byte in draw(st.dictionaries(st.integers(0, 1500), st.integers(0, 255), max_size=2)).items():
        data[position] = byte
    return bytes(data[: draw(st.sampled_from([None, 512, 700, 1024]))])


def _escape(text: str) -> str:
    return quote(text.encode(errors="surrogateescape"), safe="")
