"""`teul pull`, `teul push`, and what `run` pulls, against a fake engine: requests and output as docker's."""

from __future__ import annotations

import base64
import json
from queue import Queue
from socket import socket
from typing import Any

import pytest

from teul.cli.context import Streams
from unit.cli.fake_engine import CommandLine, FakeEngine, Request, failure, reply, stream

DIGEST = "sha256:" + "a" * 64
PULLED: list[dict[str, Any]] = [
    {"status": "Pulling from library/x", "id": "latest"},
    {"status": "Pulling fs layer", "progressDetail": {}, "id": "abc"},
    {"status": "Downloading", "progressDetail": {"current": 1, "total": 2}, "progress": "[=>]", "id": "abc"},
    {"status": "Pull complete", "progressDetail": {}, "id": "abc"},
    {"status": f"Digest: {DIGEST}"},
    {"status": "Status: Downloaded newer image for x:latest"},
]
LINES = (
    f"latest: Pulling from library/x\nabc: Pulling fs layer\nabc: Pull complete\nDigest: {DIGEST}\n"
    "Status: Downloaded newer image for x:latest\n"
)


def shown_credentials(headers: dict[str, str]) -> Any:
    return json.loads(base64.urlsafe_b64decode(headers["x-registry-auth"]))


def configure(teul: CommandLine, document: Any) -> None:
    (teul.directory / ".docker").mkdir(exist_ok=True)
    (teul.directory / ".docker" / "config.json").write_text(json.dumps(document))


@pytest.mark.parametrize("command", [["pull"], ["image", "pull"]])
def test_pull_tells_how_it_goes_and_what_it_pulled(engine: FakeEngine, teul: CommandLine, command: list[str]) -> None:
    engine.routes = {"POST /images/create": stream(*PULLED)}
    outcome = teul(*command, "x")
    assert (outcome.status, outcome.err) == (0, "")
    assert outcome.out == f"Using default tag: latest\n{LINES}docker.io/library/x:latest\n"
    assert engine.requests[0].query == {"fromImage": ["x"], "tag": ["latest"]}
    assert shown_credentials(engine.requests[0].headers) == {}


@pytest.mark.parametrize(
    ("arguments", "query", "last"),
    [
        (["reg:5000/a/b:v1"], {"fromImage": ["reg:5000/a/b"], "tag": ["v1"]}, "reg:5000/a/b:v1"),
        ([f"x@{DIGEST}"], {"fromImage": ["x"], "tag": [DIGEST]}, f"docker.io/library/x@{DIGEST}"),
        (["--platform", "Linux/ARM64", "x:1"], {"fromImage": ["x"], "tag": ["1"], "platform": ["linux/arm64"]}, "docker.io/library/x:1"),
        (["-a", "x"], {"fromImage": ["x"]}, "docker.io/library/x"),
    ],
)
def test_what_pull_asks_for(engine: FakeEngine, teul: CommandLine, arguments: list[str], query: dict[str, Any], last: str) -> None:
    engine.routes = {"POST /images/create": stream(*PULLED)}
    assert teul("pull", *arguments).out == f"{LINES}{last}\n"
    assert engine.requests[0].query == query


def test_quiet_is_one_line(engine: FakeEngine, teul: CommandLine) -> None:
    engine.routes = {"POST /images/create": stream(*PULLED)}
    assert teul("pull", "-q", "x").out == "docker.io/library/x:latest\n"


def test_the_default_platform_is_the_environments(engine: FakeEngine, teul: CommandLine) -> None:
    engine.routes = {"POST /images/create": stream()}
    teul.environment["DOCKER_DEFAULT_PLATFORM"] = "linux/arm64"
    teul("pull", "x")
    teul("pull", "--platform=", "x")
    assert [request.query.get("platform") for request in engine.requests] == [["linux/arm64"], None]


@pytest.mark.parametrize(
    ("arguments", "err"),
    [
        (["pull", "X"], "invalid reference format: repository name (library/X) must be lowercase"),
        (["pull", "-a", "x:1"], "tag can't be used with --all-tags/-a"),
        (["push", "-a", "x:1"], "tag can't be used with --all-tags/-a"),
        (["push", f"x@{DIGEST}"], "cannot push a digest reference"),
        (["push", "-q", "--platform", "a/b/c/d/e", "x"], 'Invalid platform a/b/c/d/e"d/e" is an invalid component of "a/b/c/d/e": '),
        (["pull", "--disable-content-trust=false", "x"], "content trust is not supported: "),
        (["push", "--disable-content-trust=false", "x"], "content trust is not supported: "),
        (["run", "--disable-content-trust=false", "x"], "teul: content trust is not supported: "),
    ],
)
def test_refusals_without_a_request(engine: FakeEngine, teul: CommandLine, arguments: list[str], err: str) -> None:
    outcome = teul(*arguments)
    assert outcome.status == (125 if arguments[0] == "run" else 1)
    assert outcome.err.startswith(err)
    assert engine.requests == []


@pytest.mark.parametrize(("value", "status"), [("1", 1), ("what", 1), ("0", 0), ("", 0)])
def test_who_always_wants_signatures_checked_is_not_served_without(engine: FakeEngine, teul: CommandLine, value: str, status: int) -> None:
    engine.routes = {"POST /images/create": stream()}
    teul.environment["DOCKER_CONTENT_TRUST"] = value
    assert teul("pull", "x").status == status
    assert teul("pull", "--disable-content-trust", "x").status == 0
    assert teul("pull", f"x@{DIGEST}").status == 0, "a digest is as good as a signature"


def test_failures(engine: FakeEngine, teul: CommandLine) -> None:
    """Those that come before the stream are the daemon's answer, those inside are said as they are."""
    engine.routes = {
        "POST /images/create": [
            failure(404, "pull access denied for x"),
            stream(PULLED[0], {"errorDetail": {"message": "no space left on device"}, "error": "old words"}),
            stream({"error": "only old words"}),
        ]
    }
    outcome = teul("pull", "-q", "x")
    assert (outcome.status, outcome.out, outcome.err) == (1, "", "Error response from daemon: pull access denied for x\n")
    outcome = teul("pull", "x:1")
    assert (outcome.status, outcome.out, outcome.err) == (1, "latest: Pulling from library/x\n", "no space left on device\n")
    assert teul("pull", "x:1").err == "only old words\n"


PUSHED: list[dict[str, Any]] = [
    {"status": "The push refers to repository [reg:5000/x]"},
    {"status": "Preparing", "progressDetail": {}, "id": "abc"},
    {"status": "Pushing", "progressDetail": {"current": 1, "total": 2}, "id": "abc"},
    {"status": "Pushed", "progressDetail": {}, "id": "abc"},
    {"status": f"v1: digest: {DIGEST} size: 500"},
    {"progressDetail": {}, "aux": {"Tag": "v1", "Digest": DIGEST, "Size": 500}},
]
PUSH_LINES = f"The push refers to repository [reg:5000/x]\nabc: Preparing\nabc: Pushed\nv1: digest: {DIGEST} size: 500\n"


@pytest.mark.parametrize("command", [["push"], ["image", "push"]])
def test_push_tells_how_it_goes(engine: FakeEngine, teul: CommandLine, command: list[str]) -> None:
    configure(teul, {"auths": {"reg:5000": {"auth": base64.b64encode(b"ann:secret").decode()}}})
    engine.routes = {"POST /images/reg:5000/x/push": stream(*PUSHED)}
    outcome = teul(*command, "reg:5000/x:v1")
    assert (outcome.status, outcome.out, outcome.err) == (0, PUSH_LINES, "")
    assert engine.requests[0].query == {"tag": ["v1"]}
    assert shown_credentials(engine.requests[0].headers) == {"username": "ann", "password": "secret", "serveraddress": "reg:5000"}


def test_push_without_a_tag(engine: FakeEngine, teul: CommandLine) -> None:
    engine.routes = {"POST /images/reg:5000/x/push": stream(*PUSHED)}
    assert teul("push", "reg:5000/x").out == f"Using default tag: latest\n{PUSH_LINES}"
    assert teul("push", "-q", "reg:5000/x").out == "reg:5000/x:latest\n"
    assert teul("push", "-a", "reg:5000/x").out == PUSH_LINES
    assert [request.query for request in engine.requests] == [{"tag": ["latest"]}, {"tag": ["latest"]}, {}]


def test_push_of_one_platform_says_what_is_left_behind(engine: FakeEngine, teul: CommandLine) -> None:
    engine.routes = {"POST /images/reg:5000/x/push": stream(*PUSHED)}
    outcome = teul("push", "--platform", "linux/arm64", "reg:5000/x:v1")
    assert outcome.out == (
        "\n Info -> Using --platform pushes only the specified platform manifest of a multi-platform image index.\n"
        "         Other components, like attestations, will not be included.\n"
        "         To push the complete multi-platform image, remove the --platform flag.\n"
        f"         \n{PUSH_LINES}"
    )
    assert json.loads(engine.requests[0].query["platform"][0]) == {"architecture": "arm64", "os": "linux"}


def test_notes_come_last_even_when_the_push_fails(engine: FakeEngine, teul: CommandLine) -> None:
    aux = {"manifestPushedInsteadOfIndex": True, "originalIndex": {"digest": "sha256:1"}, "selectedManifest": {"digest": "sha256:2"}}
    engine.routes = {
        "POST /images/reg:5000/x/push": [
            stream({"aux": aux}, *PUSHED),
            stream({"aux": {"contentMissing": True}}, {"errorDetail": {"message": "missing"}}),
        ]
    }
    note = "\n Info -> Not all multiplatform-content is present and only the available single-platform image was pushed\n"
    assert teul("push", "reg:5000/x:v1").out == f"{PUSH_LINES}{note}         sha256:1 -> sha256:2\n"
    outcome = teul("push", "reg:5000/x:v1")
    assert outcome.out.startswith("\n Info -> You're trying to push a manifest list/index")
    assert (outcome.status, outcome.err) == (1, "missing\n")


def test_a_helper_that_fails_is_a_warning_to_pull_and_an_error_to_run(engine: FakeEngine, teul: CommandLine) -> None:
    """docker: a registry may do without credentials."""
    configure(teul, {"credHelpers": {"reg:5000": "none-such"}})
    teul.environment["PATH"] = str(teul.directory)
    engine.routes = {"POST /images/create": stream(), "POST /containers/create": failure(404, "No such image")}
    why = 'error getting credentials - err: exec: "docker-credential-none-such": executable file not found in $PATH, out: ``'
    outcome = teul("pull", "-q", "reg:5000/x")
    assert (outcome.status, outcome.out, outcome.err) == (0, "reg:5000/x:latest\n", f"WARNING: {why}\n")
    outcome = teul("run", "-q", "reg:5000/x")
    assert (outcome.status, outcome.err.splitlines()[0]) == (127, f"teul: {why}"), "docker takes any such text for a missing command"


def test_who_is_unknown_is_only_asked_at_a_terminal(engine: FakeEngine, teul: CommandLine) -> None:
    engine.routes = {"POST /images/create": failure(401, "unauthorized: authentication required")}
    outcome = teul("pull", "-q", "reg:5000/x", stdin=b"ann\n")
    assert (outcome.status, outcome.err) == (1, "Error response from daemon: unauthorized: authentication required\n")
    assert len(engine.requests) == 1


@pytest.fixture
def person(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """A terminal at which somebody answers `ann` and `secret`. Holds what was hidden."""
    hidden: list[str] = []

    class Hidden:
        def __init__(self, fd: int) -> None:
            self.fd = fd

        def __enter__(self) -> None:
            hidden.append("from here")

        def __exit__(self, *details: object) -> None:
            hidden.append("to here")

    monkeypatch.setattr("teul.cli.registry.login.HiddenInput", Hidden)
    monkeypatch.setattr(Streams, "stdin_is_terminal", property(lambda _: True))
    return hidden


def test_who_is_unknown_is_asked_once(engine: FakeEngine, teul: CommandLine, person: list[str]) -> None:
    engine.routes = {"POST /images/create": [failure(401, "who are you?"), stream()]}
    outcome = teul("pull", "-q", "reg:5000/x", stdin=b"ann\nsecret\n")
    assert outcome.out == "\nLogin prior to pull:\nUsername: Password: \nreg:5000/x:latest\n"
    assert shown_credentials(engine.requests[1].headers) == {"username": "ann", "password": "secret", "serveraddress": "reg:5000"}
    assert person == ["from here", "to here"]


def test_run_pulls_with_credentials_and_goes_on(engine: FakeEngine, teul: CommandLine) -> None:
    configure(teul, {"auths": {"reg:5000": {"auth": base64.b64encode(b"ann:secret").decode()}}})
    engine.routes = {
        "POST /containers/create": [failure(404, "No such image: reg:5000/x:latest"), reply({"Id": "f" * 64, "Warnings": []}, 201)],
        "POST /images/create": stream(*PULLED),
    }
    outcome = teul("create", "reg:5000/x")
    assert (outcome.status, outcome.out) == (0, "f" * 64 + "\n")
    assert outcome.err == f"Unable to find image 'reg:5000/x:latest' locally\n{LINES}"
    assert shown_credentials(engine.made("POST", "/images/create")[0].headers)["username"] == "ann"


def test_quiet_create_says_nothing_about_the_pull(engine: FakeEngine, teul: CommandLine) -> None:
    engine.routes = {
        "POST /containers/create": [failure(404, "No such image"), reply({"Id": "f" * 64, "Warnings": []}, 201)],
        "POST /images/create": stream(*PULLED),
    }
    teul.environment["DOCKER_DEFAULT_PLATFORM"] = "linux/arm64"
    outcome = teul("create", "--quiet", "x")
    assert (outcome.out, outcome.err) == ("f" * 64 + "\n", "")
    assert [request.query.get("platform") for request in engine.requests] == [["linux/arm64"]] * 3


def test_an_interruption_closes_the_connection(engine: FakeEngine, teul: CommandLine, monkeypatch: pytest.MonkeyPatch) -> None:
    """The engine then gives the pull up."""
    ended: Queue[bytes] = Queue()

    def hang(_request: Request, connection: socket) -> None:
        connection.sendall(stream(*PULLED)[:-5])
        ended.put(connection.recv(1))

    engine.routes = {"POST /images/create": hang}
    shown: list[str] = []

    def write(_streams: Streams, text: str) -> None:
        shown.append(text)
        if text.startswith("abc"):
            raise KeyboardInterrupt

    monkeypatch.setattr(Streams, "write", write)
    assert teul("pull", "x:1").status == 130
    assert shown == ["latest: Pulling from library/x\n", "abc: Pulling fs layer\n"]
    assert ended.get(timeout=10) == b""
