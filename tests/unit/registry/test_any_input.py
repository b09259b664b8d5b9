"""Whatever a registry, a client of the API or a configuration says: a value or an error of ours comes out of it."""

from __future__ import annotations

import json
from contextlib import suppress

from hypothesis import example, given
from hypothesis import strategies as st
from yarl import URL

from teul.errors import TeulError
from teul.registry.answers import describe_refusal, next_link, shown
from teul.registry.backoff import parse_retry_after
from teul.registry.challenges import Challenge
from teul.registry.credentials import decode_auth_config, decode_registry_auth
from teul.registry.endpoints import login_host, parse_registries
from teul.registry.errors import Refused
from teul.registry.proxies import Proxies
from teul.registry.tokens import TokenRequest
from teul.registry.transport import resolve_location

BASE = URL("https://registry.example/v2/")
URLS = (
    st.text()
    | st.text(alphabet="htps:/@[]?#&=%.0123456789abc-\\ \t\x00é")
    | st.from_regex(r"https?://[a-z@:\[\]0-9./?#%]*", fullmatch=True)
)
JSON = st.recursive(
    st.none() | st.booleans() | st.floats() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.sampled_from(["errors", "code", "message", "detail", "details"]), inner),
)


@given(st.integers(400, 599), st.sampled_from(["", "application/json", "text/html", ";;"]), st.binary())
@example(400, "application/json", b"\x1b[2J")
def test_any_body_of_a_refusal(status: int, content_type: str, body: bytes) -> None:
    refused = describe_refusal(status, "reason", {"Content-Type": content_type}, body)
    assert isinstance(refused, Refused)
    assert "\x1b" not in refused.message


@given(JSON)
def test_any_document_of_a_refusal(document: object) -> None:
    refused = describe_refusal(404, "", {"Content-Type": "application/json"}, json.dumps(document).encode())
    assert refused.status == 404


@given(URLS)
@example("0://[]@")
def test_any_location(location: str) -> None:
    with suppress(TeulError):
        target = resolve_location(location, BASE, is_addressed=True)
        assert target.scheme in {"http", "https"}
        assert target.user is target.password is None
        assert target.host


@given(URLS)
@example("0://[]@")
def test_any_realm(realm: str) -> None:
    with suppress(TeulError):
        assert TokenRequest.of(Challenge("bearer", {"realm": realm}), BASE, decode_registry_auth(""), ()).realm.scheme in {"http", "https"}


@given(URLS)
def test_any_link_and_any_patience(text: str) -> None:
    next_link([text, f"<{text}>; rel=next"])
    seconds = parse_retry_after(text)
    assert seconds is None or seconds >= 0
    assert len(shown(text * 1000)) <= 4096


@given(st.text(), st.binary())
def test_any_credentials(header: str, body: bytes) -> None:
    with suppress(TeulError):
        decode_registry_auth(header)
    with suppress(TeulError):
        decode_auth_config(body)


@given(URLS)
def test_any_configuration(text: str) -> None:
    with suppress(TeulError):
        assert "/" not in login_host(text)
    with suppress(TeulError):
        parse_registries(mirrors=[text])
    with suppress(TeulError):
        parse_registries(insecure=[text])
    with suppress(TeulError):
        Proxies.of_environment({"HTTPS_PROXY": text, "NO_PROXY": text}).proxy_for("https", "registry.example", 443)
