"""Parameters and bodies, read as dockerd reads them."""

from __future__ import annotations

from typing import Any

import pytest
from aiohttp.test_utils import make_mocked_request

from teul.api.http import query
from teul.errors import InvalidParameter


def asking(text: str, **headers: str) -> Any:
    return make_mocked_request("GET", f"/x?{text}", headers={key.replace("_", "-"): value for key, value in headers.items()})


def refusal(call: Any) -> str:
    with pytest.raises(InvalidParameter) as caught:
        call()
    return caught.value.message


@pytest.mark.parametrize(
    ("text", "expected"),
    [("a=1", True), ("a=true", True), ("a=yes", True), ("a=2", True), ("a=", False), ("a", False), ("", False)]
    + [(f"a={value}", False) for value in ("0", "no", "No", "FALSE", "none", "%20false%20")],
)
def test_booleans(text: str, expected: bool) -> None:
    assert query.boolean(asking(text), "a") is expected


def test_a_default_only_counts_for_an_absent_parameter() -> None:
    assert query.boolean(asking(""), "a", default=True)
    assert not query.boolean(asking("a="), "a", default=True)


def test_integers() -> None:
    assert query.integer(asking("n=10"), "n") == 10
    assert query.integer(asking("n=-1"), "n") == -1
    assert query.integer(asking("n="), "n") is None
    assert query.integer(asking(""), "n") is None
    assert refusal(lambda: query.integer(asking("n=1x"), "n")) == 'strconv.Atoi: parsing "1x": invalid syntax'
    assert refusal(lambda: query.integer(asking("n=9223372036854775808"), "n")).endswith("value out of range")


def test_dimensions() -> None:
    assert query.dimension(asking("h=24"), "h", name="height") == 24
    assert refusal(lambda: query.dimension(asking(""), "h", name="height")) == 'invalid resize height "": invalid syntax'
    assert refusal(lambda: query.dimension(asking("h=-1"), "h", name="height")) == 'invalid resize height "-1": value out of range'
    assert refusal(lambda: query.dimension(asking("w=4294967296"), "w", name="width")).endswith("value out of range")


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("12", 12_000_000_000),
        ("12.5", 12_500_000_000),
        ("1.000000001", 1_000_000_001),
        ("1.0000000019", 1_000_000_001),
        ("0", 0),
        ("1.", 10**9),
    ],
)
def test_timestamps(value: str, expected: int) -> None:
    assert query.timestamp_ns(asking(f"since={value}"), "since") == expected


@pytest.mark.parametrize(
    ("value", "why"),
    [
        ("x", 'invalid seconds "x": invalid syntax'),
        ("1.-5", "invalid nanoseconds: invalid character '-' at position 0"),
        ("1." + "0" * 21, "invalid nanoseconds: length 21 exceeds maximum 20"),
    ],
)
def test_malformed_timestamps(value: str, why: str) -> None:
    message = refusal(lambda: query.timestamp_ns(asking(f"since={value}"), "since"))
    assert message == f'invalid value for "since": invalid timestamp "{value}": {why}'


@pytest.mark.parametrize(
    ("header", "message"),
    [
        ("text/plain", "unsupported Content-Type header (text/plain): must be 'application/json'"),
        ("application/", "malformed Content-Type header (application/): mime: expected token after slash"),
        (";", "malformed Content-Type header (;): mime: no media type"),
    ],
)
def test_bodies_must_be_said_to_be_json(header: str, message: str) -> None:
    assert refusal(lambda: query.check_content_type(asking("", Content_Type=header))) == message
    query.check_content_type(asking("", Content_Type="application/json; charset=utf-8"))
    query.check_content_type(asking(""))


@pytest.mark.parametrize(
    ("body", "message"),
    [
        (b"{", "invalid JSON: unexpected EOF"),
        (b"{} {}", "unexpected content after JSON"),
        (b"x", "invalid JSON: invalid character 'x' looking for beginning of value"),
        (b'{"a":"b"}', "invalid JSON: Expected `int`, got `str` - at `$[...]`"),
    ],
)
def test_malformed_json(body: bytes, message: str) -> None:
    assert refusal(lambda: query.decode_json(body, dict[str, int])) == message


def test_filters_are_json() -> None:
    assert query.filters(asking('filters={"name":["x"]}')).get("name") == ("x",)
    assert refusal(lambda: query.filters(asking("filters=x"))) == "invalid filter"
