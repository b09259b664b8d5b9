"""The commands that ask, list and change things, against a fake engine: requests and output as docker's."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

import pytest

from teul.cli.commands.ps import displayed_ports
from unit.cli.fake_engine import CommandLine, FakeEngine, empty, failure, frame, reply, stream

NOW = 1_700_000_000


@pytest.fixture(autouse=True)
def frozen_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TZ", "UTC")
    time.tzset()
    for module in ("ps", "images", "history"):
        monkeypatch.setattr(f"teul.cli.commands.{module}.time", lambda: NOW)


CONTAINER: dict[str, Any] = {
    "Id": "0123456789abcdef" * 4,
    "Names": ["/other/link", "/web"],
    "Image": "busybox",
    "ImageID": "sha256:" + "f" * 64,
    "Command": "sh -c 'echo a very long command'",
    "Created": NOW - 7200,
    "Ports": [],
    "State": "running",
    "Status": "Up 2 hours",
    "Labels": {"b": "2", "a": "1"},
    "Mounts": [{"Type": "bind", "Source": "/a/long/directory/name"}, {"Type": "volume", "Name": "vol", "Driver": "local"}],
    "NetworkSettings": {"Networks": {"bridge": {}}},
    "SizeRw": 2048,
    "SizeRootFs": 5_000_000,
}


def test_ps_is_a_table(engine: FakeEngine, teul: CommandLine) -> None:
    engine.routes = {"GET /containers/json": reply([CONTAINER])}
    assert teul("ps").out == (
        "CONTAINER ID   IMAGE     COMMAND                  CREATED       STATUS       PORTS     NAMES\n"
        '0123456789ab   busybox   "sh -c \'echo a very …"   2 hours ago   Up 2 hours             web\n'
    )
    assert engine.requests[0].query == {}


@pytest.mark.parametrize(
    ("arguments", "query"),
    [
        (["-a", "-f", "name=x", "--filter", "Name = y"], {"all": ["1"], "filters": ['{"name":{"x":true,"y":true}}']}),
        (["-l"], {"limit": ["1"]}),
        (["-n", "3", "-l"], {"limit": ["3"]}),
        (["-s"], {"size": ["1"]}),
        (["--format", "{{.Size}}"], {"size": ["1"]}),
        (["--format", "{{json .}}"], {"size": ["1"]}),
        (["--format", "{{.Size}}", "--size=false"], {}),
        (["-q", "--format", "{{.Size}}"], {}),
    ],
)
def test_what_ps_asks_for(engine: FakeEngine, teul: CommandLine, arguments: list[str], query: dict[str, list[str]]) -> None:
    engine.routes = {"GET /containers/json": reply([])}
    assert teul("container", "ls", *arguments).status == 0
    assert engine.requests[0].query == query


RAW = (
    'container_id: 0123456789ab\nimage: busybox\ncommand: "sh -c \'echo a very …"\ncreated_at: 2023-11-14 20:13:20 +0000 UTC\n'
    "state: running\nstatus: Up 2 hours\nnames: web\nlabels: a=1,b=2\nports:\n\n"
)


@pytest.mark.parametrize(
    ("arguments", "out"),
    [
        (["-q"], "0123456789ab\n"),
        (["-q", "--no-trunc"], CONTAINER["Id"] + "\n"),
        (["-q", "--format", "{{.Names}}"], "0123456789ab\n"),
        (["--format", '{{.Names}} {{.Image}} {{.State}} {{.Labels}} {{.Label "a"}}{{.Label "c"}}'], "web busybox running a=1,b=2 1\n"),
        (["--format", "{{.Mounts}} {{.LocalVolumes}} {{.Networks}} {{.Platform}}"], "/a/long/direct…,vol 1 bridge <nil>\n"),
        (
            ["--no-trunc", "--format", "{{.Names}} {{.Mounts}} {{.Command}}"],
            "other/link,web /a/long/directory/name,vol \"sh -c 'echo a very long command'\"\n",
        ),
        (["--format", "{{.Size}} {{.CreatedAt}} {{.RunningFor}}"], "2.05kB (virtual 5MB) 2023-11-14 20:13:20 +0000 UTC 2 hours ago\n"),
        (
            ["--format", 'table {{.Names}}\\t{{.Label "org.a"}}\\t{{upper .State}}'],
            "NAMES     a         STATE\nweb                 RUNNING\n",
        ),
        (["--format", "raw", "-q"], "container_id: 0123456789ab\n"),
        (
            ["--format", "raw"],
            RAW,
        ),
    ],
)
def test_formats_of_ps(engine: FakeEngine, teul: CommandLine, arguments: list[str], out: str) -> None:
    engine.routes = {"GET /containers/json": reply([CONTAINER])}
    assert teul("ps", *arguments).out == out


def test_the_platform_is_a_document_in_json(engine: FakeEngine, teul: CommandLine) -> None:
    platform = {"os": "linux", "architecture": "arm64", "variant": "v8"}
    engine.routes = {"GET /containers/json": reply([CONTAINER | {"ImageManifestDescriptor": {"platform": platform}}])}
    assert json.loads(teul("ps", "--format", "json").out)["Platform"] == platform
    assert teul("ps", "--format", "{{.Platform}}").out == "linux/arm64/v8\n"


@pytest.mark.parametrize(
    ("format_", "message"),
    [
        ("{{.Foo}}", "can't evaluate field Foo in type *formatter.ContainerContext"),
        ("table {{.ID}}{{", "unclosed action"),
        ("{{len .ID | upper}}", "error calling upper"),
    ],
)
def test_formats_that_do_not_fit(engine: FakeEngine, teul: CommandLine, format_: str, message: str) -> None:
    engine.routes = {"GET /containers/json": reply([CONTAINER])}
    outcome = teul("ps", "--format", format_)
    assert outcome.status == 1
    assert outcome.err.startswith("template parsing error: template: :1:")
    assert message in outcome.err


def test_ps_as_json_is_safe_in_html(engine: FakeEngine, teul: CommandLine) -> None:
    engine.routes = {"GET /containers/json": reply([CONTAINER | {"Command": "a <b> & c"}])}
    line = teul("ps", "--format", "json").out
    assert line == teul("ps", "--format", "{{json .}}").out
    assert '"Command":"\\"a \\u003cb\\u003e \\u0026 c\\"","CreatedAt":' in line


@pytest.mark.parametrize(
    ("changes", "image"),
    [
        ({"Image": "sha256:" + "f" * 64}, "ffffffffffff"),
        ({"Image": "a/b:c@sha256:" + "0" * 64}, "a/b:c"),
        ({"Image": ""}, "<no image>"),
    ],
)
def test_images_of_containers_are_shortened(engine: FakeEngine, teul: CommandLine, changes: dict[str, str], image: str) -> None:
    engine.routes = {"GET /containers/json": reply([CONTAINER | changes])}
    assert teul("ps", "--format", "{{.Image}}").out == f"{image}\n"
    assert teul("ps", "--no-trunc", "--format", "{{.Image}}").out == f"{changes['Image'] or image}\n"


def test_the_user_s_own_format(engine: FakeEngine, teul: CommandLine) -> None:
    (teul.directory / ".docker").mkdir()
    (teul.directory / ".docker" / "config.json").write_text('{"psFormat": "table {{.Names}}", "imagesFormat": "{{.Tag}}"}')
    engine.routes = {"GET /containers/json": reply([CONTAINER]), "GET /images/json": reply([IMAGE])}
    assert teul("ps").out == "NAMES\nweb\n"
    outcome = teul("ps", "-q", "--format", "{{.Names}}")
    assert outcome.err == "WARNING: Ignoring custom format, because both --format and --quiet are set.\n"
    assert teul("images").out == "v1\nlatest\n"


@pytest.mark.parametrize(
    ("ports", "text"),
    [
        ([], ""),
        ([{"PrivatePort": 80, "Type": "tcp"}], "80/tcp"),
        ([{"PrivatePort": 82, "Type": "tcp"}, {"PrivatePort": 80, "Type": "tcp"}, {"PrivatePort": 81, "Type": "tcp"}], "80-82/tcp"),
        ([{"PrivatePort": 80, "Type": "tcp"}, {"PrivatePort": 90, "Type": "tcp"}], "80/tcp, 90/tcp"),
        ([{"PrivatePort": 80, "PublicPort": 8080, "IP": "0.0.0.0", "Type": "tcp"}], "0.0.0.0:8080->80/tcp"),
        ([{"PrivatePort": 80, "PublicPort": 80, "IP": "::", "Type": "tcp"}], "[::]:80->80/tcp"),
        (
            [{"PrivatePort": port, "PublicPort": port, "IP": "1.2.3.4", "Type": "udp"} for port in (5, 6)]
            + [{"PrivatePort": 7, "Type": "tcp"}],
            "1.2.3.4:5-6->5-6/udp, 7/tcp",
        ),
    ],
)
def test_ports(ports: list[dict[str, Any]], text: str) -> None:
    assert displayed_ports(ports) == text


IMAGE = {
    "Id": "sha256:" + "ab" * 32,
    "RepoTags": ["local/shell:v1", "local/shell:latest"],
    "RepoDigests": ["local/shell@sha256:" + "1" * 64],
    "Created": NOW - 86400 * 3,
    "Size": 8_160_000,
    "SharedSize": -1,
    "Containers": -1,
}
IMAGE_TABLE = (
    "REPOSITORY    TAG       IMAGE ID       CREATED      SIZE\nlocal/shell   v1        abababababab   3 days ago   8.16MB\n"
    "local/shell   latest    abababababab   3 days ago   8.16MB\n"
)
DANGLING = IMAGE | {"RepoTags": ["<none>:<none>"], "RepoDigests": ["<none>@<none>"]}
BY_DIGEST = IMAGE | {"RepoTags": []}


@pytest.mark.parametrize(
    ("image", "arguments", "out"),
    [
        (
            IMAGE,
            [],
            IMAGE_TABLE,
        ),
        (IMAGE, ["-q"], "abababababab\nabababababab\n"),
        (IMAGE, ["--no-trunc", "-q"], f"{IMAGE['Id']}\n{IMAGE['Id']}\n"),
        (DANGLING, ["--format", "{{.Repository}} {{.Tag}} {{.Digest}}"], "<none> <none> <none>\n"),
        (IMAGE | {"RepoTags": None, "RepoDigests": None}, ["--format", "{{.Repository}}"], "<none>\n"),
        (BY_DIGEST, ["--format", "{{.Repository}} {{.Tag}}"], "local/shell <none>\n"),
        (BY_DIGEST, ["--digests", "--format", "{{.Digest}}"], f"sha256:{'1' * 64}\n"),
        (
            IMAGE | {"RepoTags": ["x:y"], "RepoDigests": ["x@sha256:2"]},
            ["--digests", "--format", "{{.Repository}}@{{.Digest}}"],
            "x@sha256:2\n",
        ),
        (
            IMAGE | {"RepoTags": ["x:y"], "RepoDigests": [], "SharedSize": 160000, "Containers": 2},
            ["--format", "{{.SharedSize}} {{.UniqueSize}} {{.Containers}} {{.VirtualSize}}"],
            "160kB 8MB 2 8.16MB\n",
        ),
        (
            IMAGE | {"RepoTags": ["x:y"], "RepoDigests": []},
            ["--format", "{{.SharedSize}} {{.UniqueSize}} {{.Containers}} {{.CreatedAt}}"],
            "N/A N/A N/A 2023-11-11 22:13:20 +0000 UTC\n",
        ),
        (IMAGE | {"RepoTags": ["x:y"], "RepoDigests": []}, ["--format", "raw", "-q"], "image_id: abababababab\n"),
    ],
)
def test_images(engine: FakeEngine, teul: CommandLine, image: dict[str, Any], arguments: list[str], out: str) -> None:
    engine.routes = {"GET /images/json": reply([image])}
    assert teul("images", *arguments).out == out


def test_images_of_a_name(engine: FakeEngine, teul: CommandLine) -> None:
    engine.routes = {"GET /images/json": reply([])}
    assert teul("image", "ls", "-a", "-f", "dangling=true", "busy*").status == 0
    assert engine.requests[0].query == {"all": ["1"], "filters": ['{"dangling":{"true":true},"reference":{"busy*":true}}']}


def test_rmi(engine: FakeEngine, teul: CommandLine) -> None:
    engine.routes = {
        "DELETE /images/a/b:c": reply([{"Untagged": "a/b:c"}, {"Deleted": "sha256:1"}]),
        "DELETE /images/no": failure(404, "No such image: no"),
    }
    outcome = teul("rmi", "-f", "--no-prune", "a/b:c", "no")
    assert outcome.out == "Untagged: a/b:c\nDeleted: sha256:1\n"
    assert (outcome.status, outcome.err) == (0, "Error response from daemon: No such image: no\n")
    assert engine.requests[0].query == {"force": ["1"], "noprune": ["1"]}
    assert teul("image", "rm", "no").status == 1


def test_tag(engine: FakeEngine, teul: CommandLine) -> None:
    engine.routes = {"POST /images/a/tag": empty(201)}
    assert teul("tag", "a", "reg.example:5000/b/c:v1").status == 0
    assert engine.requests[0].query == {"repo": ["reg.example:5000/b/c"], "tag": ["v1"]}
    assert 'Error parsing reference: "A:b" is not a valid repository/tag' in teul("tag", "a", "A:b").err
    assert "refusing to create a tag with a digest reference" in teul("tag", "a", "b@sha256:" + "0" * 64).err


LAYERS = [
    {"Id": "sha256:" + "cd" * 32, "Created": NOW - 60, "CreatedBy": "RUN\t" + "x" * 60, "Size": 1024, "Comment": "c"},
    {"Id": "<missing>", "Created": 0, "CreatedBy": "", "Size": 0, "Comment": ""},
]


def test_history(engine: FakeEngine, teul: CommandLine) -> None:
    engine.routes = {"GET /images/i/history": reply(LAYERS)}
    assert teul("history", "i").out == (
        "IMAGE          CREATED              CREATED BY                                      SIZE      COMMENT\n"
        f"cdcdcdcdcdcd   About a minute ago   RUN {'x' * 40}…   1.02kB    c\n"
        "<missing>      N/A                                                                  0B        \n"
    )
    exact = teul("history", "-H=false", "--no-trunc", "--format", "{{.CreatedSince}} {{.Size}}", "i").out
    assert exact == "2023-11-14T22:12:20Z 1024\n1970-01-01T00:00:00Z 0\n"
    assert teul("history", "-q", "i").out == "cdcdcdcdcdcd\n<missing>\n"


def test_inspect_finds_out_what_it_is(engine: FakeEngine, teul: CommandLine) -> None:
    engine.routes = {
        "GET /containers/c/json": reply({"Id": "1", "Config": {"Labels": {}}, "State": {"Running": True}}),
        "GET /containers/i/json": failure(404, "No such container: i"),
        "GET /images/i/json": reply({"Id": "2"}),
        "GET /volumes/v": reply({"Name": "v"}),
    }
    documents = [{"Id": "1", "Config": {"Labels": {}}, "State": {"Running": True}}, {"Id": "2"}]
    assert teul("inspect", "c", "i").out == json.dumps(documents, indent=4) + "\n"
    assert teul("inspect", "-f", "json", "i").out == '[{"Id":"2"}]\n'
    assert teul("inspect", "-f", "{{if .State.Health}}x{{else}}none{{end}} {{json .State}}", "c").out == 'none {"Running":true}\n'
    assert teul("inspect", "-f", "{{.Name}}", "v").out == "v\n"
    sized = teul("inspect", "-s", "-f", "{{.Id}}", "i")
    assert (sized.out, sized.err) == ("2\n", "WARNING: --size ignored for image\n")


@pytest.mark.parametrize(
    ("arguments", "status", "out", "message"),
    [
        (["inspect", "no"], 1, "[]\n", "Error: No such object: no\n"),
        (["inspect", "-f", "{{.Id}}", "no"], 1, "\n", "Error: No such object: no\n"),
        (["inspect", "--type", "image", "no"], 1, "[]\n", "Error response from daemon: no route GET /images/no/json\n"),
        (["container", "inspect", "no"], 1, "[]\n", "Error response from daemon: no route GET /containers/no/json\n"),
        (["image", "inspect", "no"], 1, "[]\n", "Error response from daemon: no route GET /images/no/json\n"),
        (["inspect", "-f", "{{", "no"], 64, "", "template parsing error: template: :1: unclosed action\n"),
        (["inspect", "--type", "x", "no"], 1, "", 'unknown type: "x": must be one of "container", "image", "network", "volume"\n'),
        (["inspect", "--type", "", "no"], 1, "", 'type is empty: must be one of "container", "image", "network", "volume"\n'),
    ],
)
def test_inspect_of_nothing(teul: CommandLine, arguments: list[str], status: int, out: str, message: str) -> None:
    outcome = teul(*arguments)
    assert (outcome.status, outcome.out, outcome.err) == (status, out, message)


def test_inspect_of_a_field_that_is_not_there(engine: FakeEngine, teul: CommandLine) -> None:
    engine.routes = {"GET /containers/c/json": reply({"Id": "1"})}
    outcome = teul("inspect", "-f", "{{.Foo}}", "c")
    message = 'template parsing error: template: :1:2: executing "" at <.Foo>: map has no entry for key "Foo"\n'
    assert (outcome.status, outcome.err) == (1, message)


def test_inspect_of_a_broken_engine(engine: FakeEngine, teul: CommandLine) -> None:
    engine.routes = {"GET /containers/c/json": failure(500, "on fire")}
    assert teul("inspect", "c").err == "Error response from daemon: on fire\n"


def test_logs(engine: FakeEngine, teul: CommandLine) -> None:
    body = frame(1, b"out\n") + frame(2, b"err\n")
    engine.routes = {
        "GET /containers/c/json": reply({"Id": "1", "Config": {"Tty": False}}),
        "GET /containers/1/logs": b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%b" % (len(body), body),
    }
    outcome = teul("logs", "-f", "-t", "--details", "--since", "2006-01-02T15:04:05Z", "--until", "5", "-n", "7", "c")
    assert (outcome.out, outcome.err) == ("out\n", "err\n")
    assert engine.requests[1].query == {
        "stdout": ["1"],
        "stderr": ["1"],
        "follow": ["1"],
        "timestamps": ["1"],
        "details": ["1"],
        "tail": ["7"],
        "since": ["1136214245.000000000"],
        "until": ["5"],
    }
    engine.routes["GET /containers/c/json"] = reply({"Id": "1", "Config": {"Tty": True}})
    assert teul("logs", "c").out.encode() == body
    body = frame(3, b"bad")
    engine.routes["GET /containers/c/json"] = reply({"Id": "1", "Config": {"Tty": False}})
    engine.routes["GET /containers/1/logs"] = b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%b" % (len(body), body)
    assert teul("logs", "c").err == "error from daemon in stream: bad\n"
    assert "failed to parse value as time or duration" in teul("logs", "--since", "x", "c").err


@pytest.mark.parametrize(
    ("arguments", "request_line", "query"),
    [
        (["stop", "-t", "3", "-s", "INT", "c"], "POST /containers/c/stop", {"t": ["3"], "signal": ["INT"]}),
        (["stop", "--time", "0", "c"], "POST /containers/c/stop", {"t": ["0"]}),
        (["restart", "c"], "POST /containers/c/restart", {}),
        (["kill", "-s", "9", "c"], "POST /containers/c/kill", {"signal": ["9"]}),
        (["pause", "c"], "POST /containers/c/pause", {}),
        (["unpause", "c"], "POST /containers/c/unpause", {}),
        (["start", "c"], "POST /containers/c/start", {}),
        (["rm", "-fvl", "c"], "DELETE /containers/c", {"force": ["1"], "v": ["1"], "link": ["1"]}),
    ],
)
def test_the_verbs_print_the_name_or_the_error(
    engine: FakeEngine, teul: CommandLine, arguments: list[str], request_line: str, query: dict[str, Any]
) -> None:
    engine.routes = {request_line: [empty(), failure(409, "busy"), empty(304)]}
    outcome = teul(*arguments)
    assert (outcome.status, outcome.out, outcome.err) == (0, "c\n", "")
    assert engine.requests[0].query == query
    outcome = teul(*arguments)
    assert (outcome.status, outcome.out) == (1, "")
    assert outcome.err.startswith("Error response from daemon: busy\n")
    assert teul(*arguments).out == "c\n"


def test_rm_of_nothing(engine: FakeEngine, teul: CommandLine) -> None:
    engine.routes = {"DELETE /containers/c": failure(404, "No such container: c")}
    assert teul("rm", "c").status == 1
    forced = teul("rm", "-f", "/c/")
    assert (forced.status, forced.err) == (0, "Error response from daemon: No such container: c\n")
    assert teul("rm", "/").err == "container name cannot be empty\n"


def test_wait_prints_codes(engine: FakeEngine, teul: CommandLine) -> None:
    engine.routes = {"POST /containers/a/wait": reply({"StatusCode": 3}), "POST /containers/b/wait": reply({"StatusCode": 0})}
    assert teul("wait", "a", "b").out == "3\n0\n"


def test_rename(engine: FakeEngine, teul: CommandLine) -> None:
    engine.routes = {"POST /containers/a/rename": empty(), "POST /containers/x/rename": failure(404, "No such container: x")}
    assert teul("rename", "a", "b").status == 0
    assert engine.requests[0].query == {"name": ["b"]}
    assert teul("rename", "x", "b").err == "Error response from daemon: No such container: x\nError: failed to rename container named x\n"
    assert teul("rename", "a", " ").err == "Error: Neither old nor new names may be empty\n"


TOP = {"Titles": ["PID", "CMD"], "Processes": [["1", "sleep 9"]]}


def test_top(engine: FakeEngine, teul: CommandLine) -> None:
    engine.routes = {"GET /containers/c/top": reply(TOP)}
    assert teul("top", "c", "-o", "pid,cmd").out == "PID                 CMD\n1                   sleep 9\n"
    assert engine.requests[0].query == {"ps_args": ["-o pid,cmd"]}


def test_load(engine: FakeEngine, teul: CommandLine, tmp_path: Path) -> None:
    archive = tmp_path / "a.tar"
    archive.write_bytes(b"x" * 2_500_000)
    engine.routes = {"POST /images/load": stream({"stream": "Loaded image: a:b\n"})}
    assert teul("load", "-i", str(archive), "--platform", "linux/amd64").out == "Loaded image: a:b\n"
    assert len(engine.requests[0].body) == 2_500_000
    assert engine.requests[0].query == {"quiet": ["1"], "platform": ['{"architecture":"amd64","os":"linux"}']}
    assert teul("load", "-q", stdin=b"tar").status == 0
    assert engine.requests[1].body == b"tar"
    assert teul("load", "-i", "/nosuch").err == "open /nosuch: no such file or directory\n"


def test_one_platform_of_an_image(engine: FakeEngine, teul: CommandLine) -> None:
    arm, intel = '{"architecture":"arm64","os":"linux"}', '{"architecture":"amd64","os":"linux"}'
    engine.routes = {"GET /images/x/history": reply([]), "GET /images/x/json": reply({"Id": "1"}), "DELETE /images/x": reply([])}
    assert teul("history", "--platform", "linux/arm64", "x").status == 0
    assert teul("image", "inspect", "--platform", "linux/arm64", "x").status == 0
    assert teul("rmi", "--platform", "linux/arm64,linux/amd64", "--platform", "linux/amd64", "x").status == 0
    assert [request.query for request in engine.requests] == [{"platform": [arm]}, {"platform": [arm]}, {"platforms": [arm, intel, intel]}]
    for command in (["history"], ["image", "inspect"], ["rmi"], ["load"]):
        outcome = teul(*command, "--platform", "linux/a b", *([] if command == ["load"] else ["x"]))
        assert (outcome.status, outcome.out) == (1, "")
        assert 'platform specifier component must match "^[A-Za-z0-9_.-]+$"' in outcome.err
    assert len(engine.requests) == 3


def test_load_that_is_refused_while_it_is_sent(engine: FakeEngine, teul: CommandLine, tmp_path: Path) -> None:
    """The engine may answer and close before it has read everything; its answer is what counts."""
    archive = tmp_path / "a.tar"
    archive.write_bytes(b"x" * 20_000_000)
    engine.refuse_body_after = 100_000
    engine.routes = {"POST /images/load": failure(400, "invalid tar header")}
    outcome = teul("load", "-i", str(archive))
    assert (outcome.status, outcome.err) == (1, "Error response from daemon: invalid tar header\n")


def test_import(engine: FakeEngine, teul: CommandLine) -> None:
    engine.routes = {"POST /images/create": stream({"status": "sha256:1"})}
    assert teul("import", "-c", "CMD x", "-c", "ENV A=1", "-m", "hi", "-", "a:b", stdin=b"tar").out == "sha256:1\n"
    request = engine.requests[0]
    assert request.query == {"fromSrc": ["-"], "repo": ["a:b"], "message": ["hi"], "changes": ["CMD x", "ENV A=1"]}
    assert request.body == b"tar"
    assert teul("import", "http://x/y.tar").status == 0
    assert engine.requests[1].query == {"fromSrc": ["http://x/y.tar"]}


EVENT = {
    "Type": "container",
    "Action": "start",
    "Actor": {"ID": "1", "Attributes": {"name": "n", "image": "i"}},
    "time": 5,
    "timeNano": 5_000_000_007,
}


def test_events(engine: FakeEngine, teul: CommandLine) -> None:
    engine.routes = {"GET /events": stream(EVENT, {"Type": "image", "Action": "load", "Actor": {"ID": "2"}})}
    assert teul("events", "--since", "1", "--until", "6", "-f", "type=container").out == (
        "1970-01-01T00:00:05.000000007Z container start 1 (image=i, name=n)\nimage load 2\n"
    )
    assert engine.requests[0].query == {"since": ["1"], "until": ["6"], "filters": ['{"type":{"container":true}}']}
    assert teul("events", "--format", "{{.Type}} {{.TimeNano}} {{.Actor.ID}}").out == "container 5000000007 1\nimage  2\n"
    assert teul("events", "--format", "json").out.startswith('{"Type":"container","Action":"start",')
    assert teul("events", "--format", "{{").status == 64
    assert "failed to parse" in teul("events", "--since", "x").err


SERVER = {
    "Platform": {"Name": "Teul"},
    "Version": "0.1",
    "ApiVersion": "1.51",
    "MinAPIVersion": "1.24",
    "Os": "linux",
    "Arch": "amd64",
    "BuildTime": "2026-01-02T03:04:05.000000000+00:00",
    "Components": [
        {
            "Name": "Engine",
            "Version": "0.1",
            "Details": {
                "ApiVersion": "1.51",
                "MinAPIVersion": "1.24",
                "BuildTime": "2026-01-02T03:04:05+00:00",
                "Os": "linux",
                "Arch": "amd64",
                "Experimental": "false",
            },
        },
        {"Name": "runc", "Version": "1", "Details": {"GitCommit": "abc", "A": "b"}},
    ],
}


def test_version(engine: FakeEngine, teul: CommandLine) -> None:
    engine.routes = {"GET /version": reply(SERVER)}
    out = teul("version").out
    assert "Client: Teul\n Version:           0.1.0\n API version:       1.51\n" in out
    assert out.endswith(
        " Context:           default\n\nServer: Teul\n Engine:\n  Version:          0.1\n  API version:      1.51 (minimum version 1.24)\n"
        "  Built:            Fri Jan  2 03:04:05 2026\n  OS/Arch:          linux/amd64\n  Experimental:     false\n"
        " runc:\n  Version:          1\n  A:                b\n  GitCommit:        abc\n\n"
    )
    assert teul("version", "-f", "{{.Server.Version}} {{.Client.Os}}").out == "0.1 linux\n"
    assert teul("version", "--format", "{{.Nope}}").status == 1
    assert teul("version", "--format", "{{").status == 64
    assert teul("version", "--format", "json").out.startswith('{"Client":{"Version":"0.1.0"')


def test_version_of_an_old_engine_and_of_none(engine: FakeEngine, teul: CommandLine) -> None:
    engine.routes = {
        "GET /version": reply({"Version": "1.12", "ApiVersion": "1.24", "Os": "linux", "Arch": "amd64", "BuildTime": "long ago"})
    }
    assert "  Version:          1.12\n  API version:      1.24 (minimum version )\n  Built:            long ago\n" in teul("version").out
    engine.routes = {}
    outcome = teul("version")
    assert outcome.status == 1
    assert "Server" not in outcome.out


INFO = {
    "Containers": 3,
    "ContainersRunning": 1,
    "ContainersPaused": 0,
    "ContainersStopped": 2,
    "Images": 5,
    "ServerVersion": "0.1",
    "Driver": "overlay2",
    "DriverStatus": [["A", "b"]],
    "Plugins": {"Volume": ["local"], "Network": ["bridge", "host"], "Log": ["json-file"]},
    "Swarm": {"LocalNodeState": "inactive"},
    "Runtimes": {"teul": {}},
    "DefaultRuntime": "teul",
    "SecurityOptions": ["name=seccomp,profile=builtin", "name=cgroupns"],
    "NCPU": 2,
    "MemTotal": 25 << 30,
    "Labels": ["a=b"],
    "RegistryConfig": {
        "IndexConfigs": {"x": {"Name": "x", "Secure": False}},
        "InsecureRegistryCIDRs": ["127.0.0.0/8"],
        "Mirrors": ["m"],
    },
    "DefaultAddressPools": [{"Base": "10.0.0.0/8", "Size": 24}],
    "Warnings": ["WARNING: careful"],
}


def test_info(engine: FakeEngine, teul: CommandLine) -> None:
    engine.routes = {"GET /info": reply(INFO)}
    outcome = teul("system", "info")
    assert outcome.err == "WARNING: careful\n"
    expected = """\
 Containers: 3
  Running: 1
  Paused: 0
  Stopped: 2
 Images: 5
 Server Version: 0.1
 Storage Driver: overlay2
  A: b
 Plugins:
  Volume: local
  Network: bridge host
  Log: json-file
 Swarm: inactive
 Runtimes: teul
 Default Runtime: teul
 Init Binary: {}
 containerd version: {}
 runc version: {}
 init version: {}
 Security Options:
  seccomp
   Profile: builtin
  cgroupns
 CPUs: 2
 Total Memory: 25GiB
 Docker Root Dir: {}
 Debug Mode: false
 Labels:
  a=b
 Experimental: false
 Insecure Registries:
  x
  127.0.0.0/8
 Registry Mirrors:
  m
 Live Restore Enabled: false
 Default Address Pools:
   Base: 10.0.0.0/8, Size: 24

""".replace("{}", "")
    assert outcome.out.partition("Server:\n")[2] == expected
    assert teul("info", "-f", "{{.NCPU}} {{.ClientInfo.Context}}").out == "2 default\n"
    assert teul("info", "-f", "{{").status == 64
    assert teul("info", "-f", "{{.Nope}}").status == 1


def test_info_without_an_engine(engine: FakeEngine, teul: CommandLine) -> None:
    engine.routes = {"GET /info": failure(500, "no")}
    outcome = teul("info")
    assert outcome.status == 1
    assert outcome.out.endswith("\nServer:\n")
    assert outcome.err == "ERROR: Error response from daemon: no\nerrors pretty printing info\n"
    assert teul("info", "-f", "{{.ServerErrors}}").out == "[Error response from daemon: no]\n"
    nobody = CommandLine(teul.directory, {"TEUL_HOST": "unix:///nosuch"})("info")
    assert "ERROR: Cannot connect to the engine" in nobody.err
