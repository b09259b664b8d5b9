"""Where a reference leads, by dockerd's rules."""

from __future__ import annotations

from ipaddress import ip_address

import pytest

from teul.oci.reference import parse_reference
from teul.registry.endpoints import Endpoint, Registries, login_host, parse_registries
from teul.registry.errors import InvalidRegistryConfig

HUB = Endpoint("https", "registry-1.docker.io")


def test_docker_hub_has_a_registry_of_another_name() -> None:
    registries = parse_registries()
    assert registries.endpoints(parse_reference("busybox")) == [HUB]
    assert registries.endpoints(parse_reference("index.docker.io/library/busybox")) == [HUB]
    assert HUB.url == "https://registry-1.docker.io/v2/"


def test_mirrors_are_docker_hubs_and_for_pulls() -> None:
    registries = parse_registries(mirrors=["https://mirror.example/", "http://10.0.0.1:5000/hub", "https://mirror.example"])
    mirrors = [Endpoint("https", "mirror.example", is_mirror=True), Endpoint("http", "10.0.0.1:5000", "/hub", is_mirror=True)]
    assert registries.endpoints(parse_reference("busybox")) == [*mirrors, HUB]
    assert registries.endpoints(parse_reference("busybox"), with_mirrors=False) == [HUB]
    assert registries.endpoints(parse_reference("other.example/busybox")) == [Endpoint("https", "other.example")]
    assert mirrors[1].url == "http://10.0.0.1:5000/hub/v2/"


@pytest.mark.parametrize(
    ("host", "addresses", "insecure"),
    [
        ("127.0.0.1:5000", [], True),
        ("127.200.1.1", [], True),
        ("[::1]:5000", [], True),
        ("localhost:5000", ["127.0.0.1"], True),
        ("localhost:5000", [], False),
        ("registry.example", [], False),
        ("registry.example", ["10.1.2.3"], True),
        ("registry.example", ["192.0.2.1", "10.1.2.3"], True),
        ("10.255.0.1:5000", [], True),
        ("11.0.0.1:5000", ["10.0.0.1"], False),
        ("named.example:5000", [], True),
        ("named.example", [], False),
        ("other.example", [], True),
        ("[fd00::5]:5000", [], True),
        ("[fe80::5]:5000", [], False),
    ],
)
def test_insecure_registries_are_known_by_name_or_address(host: str, addresses: list[str], *, insecure: bool) -> None:
    registries = parse_registries(insecure=["10.0.0.0/8", "named.example:5000", "https://other.example", "fd00::/8"])
    found = registries.endpoints_of_host(host, addresses=[ip_address(address) for address in addresses])
    secure = [Endpoint("https", host)]
    assert found == ([Endpoint("https", host, verify=False), Endpoint("http", host, verify=False)] if insecure else secure)


def test_docker_hub_is_never_insecure() -> None:
    assert parse_registries(insecure=["docker.io", "0.0.0.0/0"]).endpoints(parse_reference("busybox")) == [HUB]
    assert not Registries().asks_addresses("docker.io")


def test_an_insecure_mirror_is_not_verified() -> None:
    registries = parse_registries(mirrors=["https://10.0.0.1"], insecure=["10.0.0.1"])
    assert registries.mirrors == (Endpoint("https", "10.0.0.1", verify=False, is_mirror=True),)


@pytest.mark.parametrize(
    ("mirror", "message"),
    [
        ("mirror.example", """invalid mirror: no scheme specified for "mirror.example": must use either 'https://' or 'http://'"""),
        ("ftp://m", """invalid mirror: unsupported scheme "ftp" in "ftp://m": must use either 'https://' or 'http://'"""),
        ("https://m/?a=b", 'invalid mirror: query or fragment at end of the URI "https://m/?a=b"'),
        ("https://m/#a", 'invalid mirror: query or fragment at end of the URI "https://m/#a"'),
        ("https://u:p@m/", 'invalid mirror: username/password not allowed in URI "https://u:xxxxx@m/"'),
        ("https://m m/", 'invalid mirror: "https://m m/" is not a valid URI'),
        ("https://..", 'invalid mirror: "https://.." is not a valid URI'),
    ],
)
def test_a_mirror_that_cannot_be_is_refused(mirror: str, message: str) -> None:
    with pytest.raises(InvalidRegistryConfig) as caught:
        parse_registries(mirrors=[mirror])
    assert caught.value.message == message


@pytest.mark.parametrize(
    ("entry", "message"),
    [
        ("-x", "invalid index name (-x). Cannot begin or end with a hyphen"),
        ("ftp://x", "insecure registry ftp://x should not contain '://'"),
        ("a b", 'insecure registry a b is not valid: invalid host "a b"'),
        ("x:99999", 'insecure registry x:99999 is not valid: invalid port "99999"'),
        ("10.0.0.0/99", 'insecure registry 10.0.0.0/99 is not valid: invalid host "10.0.0.0/99"'),
    ],
)
def test_an_insecure_registry_that_cannot_be_is_refused(entry: str, message: str) -> None:
    with pytest.raises(InvalidRegistryConfig) as caught:
        parse_registries(insecure=[entry])
    assert caught.value.message == message


@pytest.mark.parametrize(
    ("address", "host"),
    [
        ("", "docker.io"),
        ("https://index.docker.io/v1/", "index.docker.io"),
        ("registry.example:5000", "registry.example:5000"),
        ("http://registry.example/v2/", "registry.example"),
        ("[::1]:5000", "[::1]:5000"),
    ],
)
def test_a_login_goes_to_the_host_of_its_address(address: str, host: str) -> None:
    assert login_host(address) == host


@pytest.mark.parametrize("address", ["http://", "../../etc", "https://a b", "https://[::1", "x:y:z"])
def test_a_login_to_no_host_is_refused(address: str) -> None:
    with pytest.raises(InvalidRegistryConfig, match="unable to parse server address"):
        login_host(address)
