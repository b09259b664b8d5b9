"""Who is shown which credentials, and what becomes of the tokens."""

from __future__ import annotations

import json

import pytest
from yarl import URL

from support.registry import IDENTITY, PASSWORD, USERNAME, FakeRegistry
from teul.errors import TeulError
from teul.oci.descriptor import OCI_MANIFEST, Descriptor
from teul.oci.reference import Reference, parse_reference
from teul.registry.challenges import Challenge
from teul.registry.client.registry_client import RegistryClient
from teul.registry.credentials import Credentials
from teul.registry.endpoints import Endpoint, Registries
from teul.registry.errors import AuthenticationFailed, LoginFailed, LoginRefused, NotInRegistry, RegistryError
from teul.registry.tokens import TokenRequest, Tokens
from teul.registry.transport import Options, Transport

NAME = "private/test"
MANIFEST = b'{"schemaVersion":2,"config":{},"layers":[]}'
GOOD = Credentials(USERNAME, PASSWORD)
WRONG = Credentials(USERNAME, "close barley")


def reference(registry: FakeRegistry) -> Reference:
    return parse_reference(f"{registry.host}/{NAME}:latest")


@pytest.fixture
def stored(registry: FakeRegistry) -> Descriptor:
    return registry.add_manifest(NAME, MANIFEST, OCI_MANIFEST, "latest")


async def test_a_password_opens_a_registry_that_asks_for_one(client: RegistryClient, registry: FakeRegistry, stored: Descriptor) -> None:
    registry.behaviour.auth = "basic"
    assert await (await client.repository(reference(registry), GOOD)).resolve() == stored


async def test_without_a_password_there_is_nothing_to_show(client: RegistryClient, registry: FakeRegistry, stored: Descriptor) -> None:
    registry.behaviour.auth = "basic"
    with pytest.raises(AuthenticationFailed) as caught:
        await (await client.repository(reference(registry))).resolve()
    assert caught.value.message == f'Head "http://{registry.host}/v2/{NAME}/manifests/latest": no basic auth credentials'


async def test_a_wrong_password_is_refused(client: RegistryClient, registry: FakeRegistry, stored: Descriptor) -> None:
    registry.behaviour.auth = "basic"
    with pytest.raises(RegistryError, match=r"^unauthorized: authentication required$"):
        await (await client.repository(reference(registry), WRONG)).resolve()


async def test_a_token_is_asked_for_what_it_is_for(client: RegistryClient, registry: FakeRegistry, stored: Descriptor) -> None:
    registry.behaviour.auth = "token"
    repository = await client.repository(reference(registry), GOOD)
    assert await repository.resolve() == stored
    assert await repository.fetch_manifest(stored) == MANIFEST
    assert registry.token_requests == [{"service": ["fake"], "scope": [f"repository:{NAME}:pull"], "account": [USERNAME]}]


async def test_a_token_is_kept_for_the_next_pull_and_no_one_else(
    client: RegistryClient, registry: FakeRegistry, stored: Descriptor
) -> None:
    registry.behaviour.auth = "token"
    for credentials in (GOOD, GOOD, Credentials()):
        await (await client.repository(reference(registry), credentials)).resolve()
    assert len(registry.token_requests) == 2
    await (await client.repository(reference(registry), GOOD, push=True)).resolve()
    assert registry.token_requests[-1]["scope"] == [f"repository:{NAME}:pull,push"]


async def test_a_token_that_has_run_out_is_renewed(options: Options, registry: FakeRegistry, stored: Descriptor) -> None:
    now = [0.0]
    registry.behaviour.auth, registry.behaviour.token_seconds = "token", 300
    async with Transport(options) as transport:
        tokens = Tokens(transport, clock=lambda: now[0])
        wanted = TokenRequest(URL(f"{registry.url}/token"), "fake", (), GOOD)
        first = await tokens.get(wanted, None)
        now[0] = 290.0
        assert await tokens.get(wanted, None) == first
        now[0] = 296.0
        assert await tokens.get(wanted, None) != first


async def test_a_token_lasts_a_minute_at_least(options: Options, registry: FakeRegistry) -> None:
    now = [0.0]
    registry.behaviour.token_seconds = 1
    async with Transport(options) as transport:
        tokens = Tokens(transport, clock=lambda: now[0])
        wanted = TokenRequest(URL(f"{registry.url}/token"), "", (), GOOD)
        first = await tokens.get(wanted, None)
        now[0] = 54.0
        assert await tokens.get(wanted, None) == first


async def test_a_token_that_is_taken_no_more_is_renewed_once(client: RegistryClient, registry: FakeRegistry, stored: Descriptor) -> None:
    registry.behaviour.auth, registry.behaviour.forgets_tokens = "token", True
    repository = await client.repository(reference(registry), GOOD)
    for _ in range(3):
        assert await repository.resolve() == stored
    assert len(registry.token_requests) == 3


@pytest.mark.parametrize("auth", ["", "basic", "token"])
async def test_refused_for_ever_is_refused(client: RegistryClient, registry: FakeRegistry, stored: Descriptor, auth: str) -> None:
    registry.behaviour.auth, registry.behaviour.always_unauthorized = auth, True
    with pytest.raises(RegistryError, match=r"^unauthorized: authentication required$"):
        await (await client.repository(reference(registry), GOOD)).resolve()
    assert len(registry.seen) < 12


async def test_the_token_servers_refusal_is_told_with_the_request(
    client: RegistryClient, registry: FakeRegistry, stored: Descriptor
) -> None:
    registry.behaviour.auth = "token"
    with pytest.raises(AuthenticationFailed) as caught:
        await (await client.repository(reference(registry), WRONG)).resolve()
    url = f"http://{registry.host}/v2/{NAME}/manifests/latest"
    assert caught.value.message == f'Head "{url}": unauthorized: incorrect username or password'


async def test_an_identity_token_is_sent_in_a_form(client: RegistryClient, registry: FakeRegistry, stored: Descriptor) -> None:
    registry.behaviour.auth = "token"
    repository = await client.repository(reference(registry), Credentials(USERNAME, identity_token=IDENTITY))
    assert await repository.resolve() == stored
    (asked,) = registry.token_requests
    assert asked == {
        "scope": [f"repository:{NAME}:pull"],
        "service": ["fake"],
        "client_id": ["docker"],
        "grant_type": ["refresh_token"],
        "refresh_token": [IDENTITY],
    }


async def test_a_registry_token_is_shown_as_it_is(client: RegistryClient, registry: FakeRegistry, stored: Descriptor) -> None:
    registry.behaviour.auth = "token"
    registry.tokens["given"] = True
    assert await (await client.repository(reference(registry), Credentials(registry_token="given"))).resolve() == stored
    assert registry.token_requests == []


@pytest.mark.parametrize(
    ("body", "problem"),
    [
        (b"{}", "authorization server did not include a token in the response"),
        (b"[]", "unable to decode token response"),
        (b"\xff", "unable to decode token response"),
        (json.dumps({"token": "a\r\nX-Evil: 1"}).encode(), "the token is no text for a header"),
        (b" " * (2 << 20), "the token server's answer is larger than the limit"),
    ],
)
async def test_a_token_server_that_gives_no_token(
    client: RegistryClient, registry: FakeRegistry, stored: Descriptor, body: bytes, problem: str
) -> None:
    registry.behaviour.auth, registry.behaviour.token_body = "token", body
    with pytest.raises(AuthenticationFailed, match=problem):
        await (await client.repository(reference(registry), GOOD)).resolve()


@pytest.mark.parametrize("realm", ["file:///etc/passwd", "ftp://127.0.0.1/", "http://a:b@127.0.0.1/", "http://[::1", "unix:///run/x"])
async def test_a_realm_that_is_no_place_for_credentials(
    client: RegistryClient, registry: FakeRegistry, stored: Descriptor, realm: str
) -> None:
    registry.behaviour.auth, registry.behaviour.realm = "token", realm
    with pytest.raises(AuthenticationFailed, match="invalid token auth challenge realm"):
        await (await client.repository(reference(registry), GOOD)).resolve()


def test_credentials_do_not_leave_tls_on_a_registrys_word() -> None:
    challenge = Challenge("bearer", {"realm": "http://tokens.example/"})
    base = URL("https://registry.example/v2/")
    with pytest.raises(AuthenticationFailed, match=r"tokens\.example would be sent credentials in the clear"):
        TokenRequest.of(challenge, base, GOOD, ())
    assert TokenRequest.of(challenge, base, Credentials(), ()).realm == URL("http://tokens.example/")
    with pytest.raises(AuthenticationFailed, match="no realm specified"):
        TokenRequest.of(Challenge("bearer"), base, GOOD, ())


@pytest.mark.parametrize("auth", ["basic", "token"])
async def test_a_redirect_takes_no_credentials_along(client: RegistryClient, registry: FakeRegistry, auth: str) -> None:
    blob = registry.add_blob(NAME, b"layer")
    registry.behaviour.auth = auth
    async with FakeRegistry() as store:
        store.add_blob(NAME, b"layer")
        registry.behaviour.redirect_blobs_to = store.url
        async with (await client.repository(reference(registry), GOOD)).open_blob(blob) as chunks:
            assert [chunk async for chunk in chunks] == [b"layer"]
        assert [seen for seen in store.seen if "Authorization" in seen.headers] == []
        assert len(store.seen) == 1


async def test_a_mirror_is_shown_no_credentials(options: Options, registry: FakeRegistry, stored: Descriptor) -> None:
    registry.behaviour.auth = "basic"
    mirror = Endpoint("http", registry.host, is_mirror=True)
    only_mirror = Options(Registries(mirrors=(mirror,)), certificate_directories=(), backoff=options.backoff)
    async with RegistryClient(only_mirror) as client:
        repository = await client.repository(parse_reference(NAME), GOOD)
        sessions = repository._exchange._sessions
        sessions.pop()  # Docker Hub itself is out of reach
        with pytest.raises(AuthenticationFailed, match="no basic auth credentials"):
            await repository.resolve()
    assert not any("Authorization" in seen.headers for seen in registry.seen)


async def test_what_a_mirror_has_not_the_next_endpoint_has(options: Options, registry: FakeRegistry, stored: Descriptor) -> None:
    async with FakeRegistry() as empty, FakeRegistry() as gone:
        host = gone.host
        await gone.__aexit__(None, None, None)
        mirrors = tuple(Endpoint("http", each, is_mirror=True) for each in (host, empty.host, registry.host))
        async with RegistryClient(Options(Registries(mirrors=mirrors), certificate_directories=(), backoff=options.backoff)) as client:
            repository = await client.repository(parse_reference(f"{NAME}:latest"))
            repository._exchange._sessions.pop()
            assert await repository.resolve() == stored
            assert await repository.fetch_manifest(stored) == MANIFEST
            with pytest.raises(NotInRegistry, match=f"^manifest for {NAME}:nope not found: "):
                await repository.resolve("nope")
        await gone.__aenter__()


@pytest.mark.parametrize(("auth", "gives_identity"), [("basic", False), ("token", False), ("token", True)])
async def test_a_login_checks_credentials(client: RegistryClient, registry: FakeRegistry, auth: str, *, gives_identity: bool) -> None:
    registry.behaviour.auth, registry.behaviour.gives_identity = auth, gives_identity
    given = await client.login(Credentials(USERNAME, PASSWORD, server_address=registry.host))
    assert given == (IDENTITY if gives_identity else "")
    with pytest.raises(LoginFailed if auth == "token" else LoginRefused) as caught:
        await client.login(Credentials(USERNAME, "wrong", server_address=f"http://{registry.host}/v1/"))
    expected = {
        "basic": f"login attempt to http://{registry.host}/v2/ failed with status: 401 Unauthorized",
        "token": f'Get "http://{registry.host}/v2/": unauthorized: incorrect username or password',
    }
    assert caught.value.message == expected[auth]


async def test_a_login_without_a_password_is_no_login(client: RegistryClient, registry: FakeRegistry) -> None:
    registry.behaviour.auth = "basic"
    with pytest.raises(TeulError, match="no basic auth credentials"):
        await client.login(Credentials(server_address=registry.host))
