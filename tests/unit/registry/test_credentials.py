"""`X-Registry-Auth`, as the docker command, docker-py and others send it."""

from __future__ import annotations

import base64

import pytest

from teul.registry.credentials import ANONYMOUS, Credentials, decode_registry_auth
from teul.registry.errors import InvalidRegistryAuth


def encoded(text: str) -> str:
    return base64.urlsafe_b64encode(text.encode()).decode()


@pytest.mark.parametrize(
    ("header", "credentials"),
    [
        ("", ANONYMOUS),
        (encoded("{}"), ANONYMOUS),
        (encoded("null"), ANONYMOUS),
        (encoded('{"username":"u","password":"p","serveraddress":"s"}'), Credentials("u", "p", server_address="s")),
        (encoded('{"identitytoken":"i"}'), Credentials(identity_token="i")),
        (encoded('{"registrytoken":"r"}'), Credentials(registry_token="r")),
        (encoded('{"username":"u","password":"??>>~","auth":"ignored","email":null,"more":[1]}'), Credentials("u", "??>>~")),
        (encoded('{"username": "비밀"}') + "\n", Credentials("비밀")),
    ],
)
def test_credentials_are_read(header: str, credentials: Credentials) -> None:
    assert decode_registry_auth(header) == credentials


@pytest.mark.parametrize(
    ("header", "message"),
    [
        ("invalid", "invalid X-Registry-Auth header: unexpected EOF"),
        ("e30", "invalid X-Registry-Auth header: unexpected EOF"),
        ("ab{}", "invalid X-Registry-Auth header: illegal base64 data at input byte 2"),
        ("비밀", "invalid X-Registry-Auth header: illegal base64 data at input byte 0"),
        (base64.urlsafe_b64encode(b"   ").decode(), "invalid X-Registry-Auth header: EOF"),
    ],
)
def test_a_header_that_cannot_be_read_is_refused(header: str, message: str) -> None:
    with pytest.raises(InvalidRegistryAuth) as caught:
        decode_registry_auth(header)
    assert caught.value.message == message


@pytest.mark.parametrize("document", ["[]", '{"username":1}', "{", "\x00", '"text"', "[" * 5000])
def test_a_document_of_another_shape_is_refused(document: str) -> None:
    with pytest.raises(InvalidRegistryAuth, match=r"^invalid X-Registry-Auth header: "):
        decode_registry_auth(encoded(document))


def test_secrets_stay_out_of_logs() -> None:
    text = repr(Credentials("user", "sesame", "identity", "bearer", "host"))
    assert "user" in text
    assert not any(secret in text for secret in ("sesame", "identity=", "bearer"))
