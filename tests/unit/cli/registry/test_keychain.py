"""Where credentials are kept: docker's config.json and the programs that it names."""

from __future__ import annotations

import base64
import json
import os
import stat
from pathlib import Path
from typing import Any

import pytest

from teul.cli.endpoint import load_config
from teul.cli.errors import CliError
from teul.cli.registry.credentials import INDEX_SERVER, Credentials, from_config, host_name, server_key, to_config
from teul.cli.registry.keychain import Keychain, default_store
from teul.cli.registry.password_program import HelperFailed

AUTH = base64.b64encode(b"ann:se:cret").decode()


class Programs:
    """Helpers as docker's are, in memory: a dictionary for each program, and what was asked of them."""

    def __init__(self) -> None:
        self.secrets: dict[str, dict[str, dict[str, str]]] = {}
        self.broken: tuple[int, bytes] | OSError | None = None
        self.calls: list[tuple[str, str, bytes]] = []

    def __call__(self, program: str, action: str, data: bytes) -> tuple[int, bytes]:
        self.calls.append((program, action, data))
        if isinstance(self.broken, OSError):
            raise self.broken
        if self.broken is not None:
            return self.broken
        kept = self.secrets.setdefault(program, {})
        if action == "store":
            document = json.loads(data)
            kept[document["ServerURL"]] = document
        elif action == "erase":
            kept.pop(data.decode(), None)
        elif data.decode() in kept:
            return 0, json.dumps(kept[data.decode()]).encode()
        else:
            return 1, b"credentials not found in native keychain\n"
        return 0, b""


@pytest.fixture
def programs() -> Programs:
    return Programs()


@pytest.fixture
def chain(tmp_path: Path, programs: Programs) -> Keychain:
    directory = str(tmp_path / "docker")
    return Keychain(directory, lambda: load_config(directory), programs)


def write(chain: Keychain, document: Any) -> None:
    os.makedirs(os.path.dirname(chain.path), exist_ok=True)
    Path(chain.path).write_text(json.dumps(document))


def read(chain: Keychain) -> Any:
    return json.loads(Path(chain.path).read_text())


def test_names_and_passwords_are_kept_as_docker_keeps_them() -> None:
    credentials = Credentials(username="ann", password="se:cret", server="reg:5000", email="a@b", identity_token="t")
    assert to_config(credentials) == {"auth": AUTH, "email": "a@b", "identitytoken": "t"}
    assert from_config("reg:5000", to_config(credentials)) == credentials
    assert from_config("x", {"username": "u", "password": "p"}) == Credentials("u", "p", "x")
    assert to_config(Credentials(server="x")) == {}


def test_the_engine_is_told_in_a_header() -> None:
    name, value = Credentials("ann", "??>>", "x").header()
    assert name == "X-Registry-Auth"
    assert "-" in value or "_" in value, "it is the alphabet for URLs"
    assert json.loads(base64.urlsafe_b64decode(value)) == {"username": "ann", "password": "??>>", "serveraddress": "x"}
    assert Credentials().header()[1] == "e30="


@pytest.mark.parametrize(
    ("address", "name"),
    [
        ("reg", "reg"),
        ("reg:5000", "reg:5000"),
        ("https://reg:5000/v2/", "reg:5000"),
        ("http://reg", "reg"),
        ("reg/v1", "reg"),
        ("://", "://"),
    ],
)
def test_addresses_are_reduced_to_hosts(address: str, name: str) -> None:
    assert host_name(address) == name


def test_the_default_domain_has_a_key_of_its_own() -> None:
    assert server_key("docker.io") == INDEX_SERVER
    assert server_key("reg:5000") == "reg:5000"


def test_without_a_file_there_are_no_credentials(chain: Keychain) -> None:
    assert chain.get("reg") == Credentials()
    chain.erase("reg")
    assert not os.path.exists(chain.path)


def test_entries_of_old_are_found_by_their_host(chain: Keychain) -> None:
    write(chain, {"auths": {"https://reg:5000/v1/": {"auth": AUTH}}})
    assert chain.get("reg:5000") == Credentials("ann", "se:cret", "https://reg:5000/v1/")


def test_the_file_is_its_owners_alone_and_keeps_what_it_had(chain: Keychain) -> None:
    write(chain, {"HttpHeaders": {"a": "b"}, "auths": {"other": {"auth": AUTH}}, "unknown": [1]})
    os.chmod(chain.path, 0o644)
    assert chain.store(Credentials("ann", "se:cret", "reg"))
    assert read(chain) == {"HttpHeaders": {"a": "b"}, "auths": {"other": {"auth": AUTH}, "reg": {"auth": AUTH}}, "unknown": [1]}
    assert '\n\t"HttpHeaders": {\n\t\t"a": "b"' in Path(chain.path).read_text()
    assert stat.S_IMODE(os.stat(chain.path).st_mode) == 0o600
    assert os.listdir(os.path.dirname(chain.path)) == ["config.json"]
    assert not chain.store(Credentials("ann", "se:cret", "reg")), "nothing is new"
    chain.erase("other")
    assert list(read(chain)["auths"]) == ["reg"]


def test_a_new_directory_is_its_owners_alone(chain: Keychain) -> None:
    chain.store(Credentials("ann", "se:cret", "reg"))
    assert stat.S_IMODE(os.stat(os.path.dirname(chain.path)).st_mode) == 0o700


def test_a_token_is_no_password(chain: Keychain) -> None:
    assert not chain.store(Credentials("ann", "se:cret", "reg").with_token("t"))
    assert read(chain)["auths"]["reg"] == {"auth": base64.b64encode(b"ann:").decode(), "identitytoken": "t"}
    assert Credentials("ann", "p").with_token("") == Credentials("ann", "p")


def test_a_link_in_place_of_the_file_stays(chain: Keychain, tmp_path: Path) -> None:
    write(chain, {})
    os.rename(chain.path, tmp_path / "elsewhere.json")
    os.symlink(tmp_path / "elsewhere.json", chain.path)
    chain.store(Credentials("ann", "se:cret", "reg"))
    assert os.readlink(chain.path) == str(tmp_path / "elsewhere.json")
    assert "reg" in read(chain)["auths"]


@pytest.mark.parametrize(
    ("auth", "why"),
    [("AAAA", "Invalid auth configuration file"), ("!", "illegal base64 data"), (base64.b64encode(b":p").decode(), "Invalid auth")],
)
def test_an_auth_that_is_none_is_an_error(chain: Keychain, auth: str, why: str) -> None:
    write(chain, {"auths": {"reg": {"auth": auth}}})
    with pytest.raises(CliError, match=why):
        chain.get("reg")


@pytest.mark.parametrize("auths", [[], {"reg": "x"}])
def test_auths_must_be_objects(chain: Keychain, auths: object) -> None:
    write(chain, {"auths": auths})
    with pytest.raises(CliError, match='"auths" is no object of objects'):
        chain.get("reg")


def test_a_place_that_cannot_be_written_is_named(chain: Keychain, tmp_path: Path) -> None:
    (tmp_path / "docker").write_text("a file")
    with pytest.raises(CliError, match=r"open /.*/docker/config.json: (not a directory|file exists)"):
        chain.store(Credentials("ann", "se:cret", "reg"))


def test_the_helper_of_a_server_goes_before_the_one_for_all(chain: Keychain, programs: Programs) -> None:
    write(chain, {"credsStore": "all", "credHelpers": {"reg": "one"}})
    for server in ("reg", "other"):
        assert not chain.store(Credentials("ann", "se:cret", server)), "it is not in the file"
        assert chain.get(server) == Credentials("ann", "se:cret", server)
    assert sorted(programs.secrets) == ["docker-credential-all", "docker-credential-one"]
    assert programs.calls[0] == ("docker-credential-one", "store", b'{"ServerURL":"reg","Username":"ann","Secret":"se:cret"}\n')
    assert programs.calls[1] == ("docker-credential-one", "get", b"reg")
    assert read(chain)["auths"] == {"reg": {}, "other": {}}
    chain.erase("reg")
    assert read(chain)["auths"] == {"other": {}}
    assert chain.get("reg") == Credentials()


def test_helpers_keep_tokens_under_a_name_of_their_own(chain: Keychain, programs: Programs) -> None:
    write(chain, {"credsStore": "all", "auths": {"reg": {"email": "a@b"}}})
    chain.store(Credentials("ann", "", "reg", identity_token="t", email="a@b"))
    assert programs.secrets["docker-credential-all"]["reg"]["Username"] == "<token>"
    assert chain.get("reg") == Credentials(server="reg", identity_token="t", email="a@b")


@pytest.mark.parametrize(
    ("broken", "why"),
    [
        ((2, b"locked\n"), "error getting credentials - err: exit status 2, out: `locked`"),
        ((-9, b""), "error getting credentials - err: signal: 9, out: ``"),
        ((1, b"no credentials server URL"), "error getting credentials - err: no credentials server URL, out: `no credentials server URL`"),
        ((0, b"x"), "error getting credentials - docker-credential-all answers no credentials: expected a value"),
        (
            FileNotFoundError(2, "executable file not found in $PATH"),
            'error getting credentials - err: exec: "docker-credential-all": executable file not found in $PATH, out: ``',
        ),
    ],
)
def test_helpers_that_fail_say_why(chain: Keychain, programs: Programs, broken: tuple[int, bytes] | OSError, why: str) -> None:
    write(chain, {"credsStore": "all"})
    programs.broken = broken
    with pytest.raises(HelperFailed) as raised:
        chain.get("reg")
    assert raised.value.message == why


def test_what_a_helper_did_not_take_or_forget_is_an_error(chain: Keychain, programs: Programs) -> None:
    write(chain, {"credsStore": "all", "auths": {"reg": {}}})
    programs.broken = (1, b"no")
    with pytest.raises(HelperFailed, match="error storing credentials - err: exit status 1, out: `no`"):
        chain.store(Credentials("ann", "se:cret", "reg"))
    with pytest.raises(HelperFailed, match="error erasing credentials - err: exit status 1, out: `no`"):
        chain.erase("reg")
    assert "reg" in read(chain)["auths"]


def test_the_default_helper_is_for_those_who_keep_no_credentials(chain: Keychain, programs: Programs) -> None:
    write(chain, {"detachKeys": "ctrl-x"})
    chain.store(Credentials("ann", "se:cret", "reg"), default_store="pass")
    assert read(chain) == {"detachKeys": "ctrl-x", "auths": {"reg": {}}, "credsStore": "pass"}
    assert "docker-credential-pass" in programs.secrets
    write(chain, {"auths": {"other": {"auth": AUTH}}})
    assert chain.store(Credentials("ann", "se:cret", "reg"), default_store="pass")
    assert "credsStore" not in read(chain)


def test_the_default_helper_is_the_one_that_is_installed(tmp_path: Path) -> None:
    """docker: with `pass` its own helper, or none."""
    environment = {"PATH": str(tmp_path)}
    for program, expected in [("docker-credential-secretservice", "secretservice"), ("pass", ""), ("docker-credential-pass", "pass")]:
        (tmp_path / program).touch(mode=0o755)
        assert default_store(environment) == expected
