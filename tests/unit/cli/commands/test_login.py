"""`teul login` and `teul logout` against a fake engine: what is asked, said and kept, as docker does it."""

from __future__ import annotations

import base64
import json
from pathlib import Path
from typing import Any

import pytest

from teul.cli.context import Streams
from teul.cli.registry.credentials import INDEX_SERVER
from unit.cli.fake_engine import CommandLine, FakeEngine, failure, reply

SUCCEEDED = {"Status": "Login Succeeded", "IdentityToken": ""}
AUTH = base64.b64encode(b"ann:secret").decode()


@pytest.fixture(autouse=True)
def no_helpers(teul: CommandLine) -> None:
    teul.environment["PATH"] = str(teul.directory)


def config(teul: CommandLine) -> Path:
    return teul.directory / ".docker" / "config.json"


def configure(teul: CommandLine, document: Any) -> None:
    config(teul).parent.mkdir(exist_ok=True)
    config(teul).write_text(json.dumps(document))


def warning(teul: CommandLine) -> str:
    return (
        f"\nWARNING! Your credentials are stored unencrypted in '{config(teul)}'.\n"
        "Configure a credential helper to remove this warning. See\nhttps://docs.docker.com/go/credential-store/\n\n"
    )


def test_a_password_comes_from_stdin_and_is_kept(engine: FakeEngine, teul: CommandLine) -> None:
    engine.routes = {"POST /auth": reply(SUCCEEDED)}
    outcome = teul("login", "-u", "ann", "--password-stdin", "http://reg:5000/v2/", stdin=b"secret\r\n")
    assert (outcome.status, outcome.out, outcome.err) == (0, "Login Succeeded\n", warning(teul))
    assert engine.requests[0].json() == {"username": "ann", "password": "secret", "serveraddress": "reg:5000"}
    assert json.loads(config(teul).read_text()) == {"auths": {"reg:5000": {"auth": AUTH}}}


@pytest.mark.parametrize("server", [[], ["docker.io"], [INDEX_SERVER]])
def test_the_default_registry_has_its_old_address(engine: FakeEngine, teul: CommandLine, server: list[str]) -> None:
    engine.routes = {"POST /auth": reply(SUCCEEDED)}
    outcome = teul("login", "-u", "ann", "-p", "secret", *server)
    assert outcome.err == f"WARNING! Using --password via the CLI is insecure. Use --password-stdin.\n{warning(teul)}"
    assert engine.requests[0].json()["serveraddress"] == INDEX_SERVER
    assert json.loads(config(teul).read_text()) == {"auths": {INDEX_SERVER: {"auth": AUTH}}}


def test_a_token_is_kept_instead_of_the_password(engine: FakeEngine, teul: CommandLine) -> None:
    engine.routes = {"POST /auth": reply({"Status": "Login Succeeded", "IdentityToken": "token"})}
    outcome = teul("login", "-u", "ann", "--password-stdin", "reg", stdin=b"secret")
    assert (outcome.out, outcome.err) == ("Login Succeeded\n", "")
    assert json.loads(config(teul).read_text())["auths"]["reg"]["identitytoken"] == "token"


def test_who_is_refused_is_not_kept(engine: FakeEngine, teul: CommandLine) -> None:
    engine.routes = {"POST /auth": failure(401, "login attempt to http://reg/v2/ failed with status: 401 Unauthorized")}
    outcome = teul("login", "-u", "ann", "--password-stdin", "reg", stdin=b"secret")
    assert (outcome.status, outcome.out) == (1, "")
    assert outcome.err == "Error response from daemon: login attempt to http://reg/v2/ failed with status: 401 Unauthorized\n"
    assert not config(teul).exists()


@pytest.mark.parametrize(
    ("arguments", "err"),
    [
        (["-p", "x", "--password-stdin", "-u", "y"], "conflicting options: cannot specify both --password and --password-stdin"),
        (["--password-stdin"], "the --password-stdin option requires --username to be set"),
        (["-u", ""], "username is empty"),
        (["-u", "ann", "-p", ""], "password is empty"),
        ([], "Error: Cannot perform an interactive login from a non TTY device"),
        (
            ["-u", "ann", "-p", " ", "reg"],
            "WARNING! Using --password via the CLI is insecure. Use --password-stdin.\ninappropriate ioctl for device",
        ),
        (["-u", "ann", "reg"], "Error: Cannot perform an interactive login from a non TTY device"),
    ],
)
def test_refusals_without_a_request(engine: FakeEngine, teul: CommandLine, arguments: list[str], err: str) -> None:
    outcome = teul("login", *arguments)
    assert (outcome.status, outcome.err) == (1, f"{err}\n")
    assert engine.requests == []


AGAIN = (
    "Authenticating with existing credentials... [Username: ann]\n\n"
    " Info -> To login with a different account, run 'teul logout' followed by 'teul login'\n\n\n"
)


def test_who_is_known_need_not_say_it_again(engine: FakeEngine, teul: CommandLine) -> None:
    configure(teul, {"auths": {"reg": {"auth": AUTH}}})
    engine.routes = {"POST /auth": reply(SUCCEEDED)}
    outcome = teul("login", "reg")
    assert (outcome.status, outcome.out, outcome.err) == (0, "Login Succeeded\n", AGAIN)


@pytest.mark.parametrize(
    ("status", "text"),
    [(401, "Stored credentials invalid or expired\n"), (500, "Login did not succeed, error: Error response from daemon: no\n")],
)
def test_who_is_not_known_any_more_is_asked(engine: FakeEngine, teul: CommandLine, status: int, text: str) -> None:
    configure(teul, {"auths": {"reg": {"auth": AUTH}}})
    engine.routes = {"POST /auth": failure(status, "no")}
    outcome = teul("login", "reg")
    assert outcome.status == 1
    assert outcome.err == f"{AGAIN}{text}Error: Cannot perform an interactive login from a non TTY device\n"


@pytest.fixture
def at_a_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    class Hidden:
        def __init__(self, fd: int) -> None:
            self.fd = fd

        def __enter__(self) -> None: ...

        def __exit__(self, *details: object) -> None: ...

    monkeypatch.setattr("teul.cli.registry.login.HiddenInput", Hidden)
    monkeypatch.setattr(Streams, "stdin_is_terminal", property(lambda _: True))


@pytest.mark.usefixtures("at_a_terminal")
@pytest.mark.parametrize(
    ("arguments", "stdin", "out", "user"),
    [
        ([], b"ann\nsecret\n", "Username: Password: \n", "ann"),
        (["-u", "bob"], b"secret", "Password: \n", "bob"),
        (["-p", "secret"], b"ann\n", "Username: ", "ann"),
    ],
)
def test_what_is_not_given_is_asked(engine: FakeEngine, teul: CommandLine, arguments: list[str], stdin: bytes, out: str, user: str) -> None:
    engine.routes = {"POST /auth": reply(SUCCEEDED)}
    assert teul("login", *arguments, "reg", stdin=stdin).out == f"{out}Login Succeeded\n"
    assert engine.requests[0].json() == {"username": user, "password": "secret", "serveraddress": "reg"}


@pytest.mark.usefixtures("at_a_terminal")
def test_the_last_name_is_offered(engine: FakeEngine, teul: CommandLine) -> None:
    configure(teul, {"auths": {"reg": {"auth": AUTH}}})
    engine.routes = {"POST /auth": [failure(401, "no"), reply(SUCCEEDED)]}
    assert teul("login", "reg", stdin=b"\nother\n").out == "Username (ann): Password: \nLogin Succeeded\n"
    assert engine.requests[1].json() == {"username": "ann", "password": "other", "serveraddress": "reg"}


@pytest.mark.usefixtures("at_a_terminal")
def test_the_default_registry_prefers_tokens(engine: FakeEngine, teul: CommandLine) -> None:
    engine.routes = {"POST /auth": reply(SUCCEEDED)}
    outcome = teul("login", stdin=b"ann\nsecret\n")
    assert outcome.out.startswith("Log in with your Docker ID or email address to push and pull images from Docker Hub.\nYou can log in")
    assert outcome.err.startswith("\n Info -> A Personal Access Token (PAT) can be used instead.\n         To create a PAT, visit ")


@pytest.mark.usefixtures("at_a_terminal")
@pytest.mark.parametrize(("stdin", "err"), [(b"", "Error: Non-null Username Required\n"), (b"ann\n \n", "Error: Password Required\n")])
def test_nothing_is_no_answer(engine: FakeEngine, teul: CommandLine, stdin: bytes, err: str) -> None:
    outcome = teul("login", "reg", stdin=stdin)
    assert (outcome.status, outcome.err) == (1, err)


def test_what_cannot_be_kept_is_an_error(engine: FakeEngine, teul: CommandLine) -> None:
    configure(teul, {"credsStore": "none-such"})
    engine.routes = {"POST /auth": reply(SUCCEEDED)}
    outcome = teul("login", "-u", "ann", "--password-stdin", "reg", stdin=b"secret")
    assert (outcome.status, outcome.out) == (1, "")
    assert outcome.err.startswith('Error saving credentials: error storing credentials - err: exec: "docker-credential-none-such"')


def test_logout_forgets_all_spellings(engine: FakeEngine, teul: CommandLine) -> None:
    configure(teul, {"auths": {name: {"auth": AUTH} for name in ("reg", "http://reg", "https://reg", "other", INDEX_SERVER)}, "x": 1})
    outcome = teul("logout", "https://reg")
    assert (outcome.status, outcome.out, outcome.err) == (0, "Removing login credentials for reg\n", "")
    assert json.loads(config(teul).read_text()) == {"auths": {"other": {"auth": AUTH}, INDEX_SERVER: {"auth": AUTH}}, "x": 1}
    assert teul("logout").out == f"Removing login credentials for {INDEX_SERVER}\n"
    assert list(json.loads(config(teul).read_text())["auths"]) == ["other"]
    assert engine.requests == []


def test_logout_warns_when_nothing_could_be_forgotten(teul: CommandLine) -> None:
    configure(teul, {"credHelpers": {"reg": "none-such"}})
    assert teul("logout", "reg").err == "", "there were other spellings"
    configure(teul, {"credsStore": "none-such"})
    outcome = teul("logout")
    assert outcome.status == 0
    why = 'error erasing credentials - err: exec: "docker-credential-none-such": executable file not found in $PATH, out: ``'
    assert outcome.err == f"WARNING: could not erase credentials:\n{INDEX_SERVER}: {why}\n"


def test_login_explains_itself(teul: CommandLine) -> None:
    assert teul("login", "--help").out.startswith(
        "Usage:  teul login [OPTIONS] [SERVER]\n\nAuthenticate to a registry.\nDefaults to Docker Hub if no server is specified.\n\nOptions:\n"
    )
