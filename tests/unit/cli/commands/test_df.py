"""`teul system df` and `teul search` against a fake engine: texts as docker's."""

from __future__ import annotations

import base64
import json
import time
from typing import Any

import pytest

from unit.cli.fake_engine import CommandLine, FakeEngine, failure, reply

NOW = 1_700_000_000
USAGE: dict[str, Any] = {
    "LayersSize": 10_000_000,
    "Images": [
        {"Id": "sha256:" + "a" * 64, "RepoTags": ["reg:5000/x:1", "y:1"], "Created": NOW - 7200, "Size": 8_000_000, "SharedSize": 2_000_000, "Containers": 2},
        {"Id": "sha256:" + "b" * 64, "RepoTags": None, "Created": NOW - 7200, "Size": 4_000_000, "SharedSize": -1, "Containers": 0},
    ],
    "Containers": [
        {"Id": "c" * 64, "Names": ["/run"], "Image": "x", "Command": "sh", "Created": NOW - 7200, "State": "running", "Status": "Up", "SizeRw": 1000, "SizeRootFs": 9},
        {"Id": "d" * 64, "Names": ["/old"], "Image": "x", "Command": "sh", "Created": NOW - 7200, "State": "exited", "Status": "Exited", "SizeRw": 3000},
    ],
    "Volumes": [
        {"Name": "used", "Driver": "local", "Scope": "local", "Mountpoint": "/v", "Labels": {"a": "b"}, "UsageData": {"Size": 100, "RefCount": 1}},
        {"Name": "free", "Driver": "local", "UsageData": {"Size": 300, "RefCount": 0}},
        {"Name": "unknown", "Driver": "local", "UsageData": {"Size": -1, "RefCount": 0}},
        {"Name": "new", "Driver": "local", "UsageData": None},
    ],
    "BuildCache": [
        {"ID": "late" * 8, "Type": "regular", "Size": 50, "InUse": True, "Shared": False, "UsageCount": 3, "CreatedAt": "2023-11-14T20:13:20.120000000Z", "LastUsedAt": "2023-11-14T21:13:20Z", "Parents": ["p1", "p2"]},
        {"ID": "first", "Type": "source", "Size": 7, "InUse": False, "Shared": True, "CreatedAt": "2023-11-14T20:13:20Z", "Parent": "p"},
        {"ID": "free", "Type": "regular", "Size": 9, "InUse": False, "Shared": False, "CreatedAt": "2023-11-14T20:13:20Z", "LastUsedAt": "2023-11-14T20:13:20Z"},
    ],
}  # fmt: skip


@pytest.fixture(autouse=True)
def frozen_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TZ", "UTC")
    time.tzset()
    for module in ("commands.ps", "commands.images", "format.usage"):
        monkeypatch.setattr(f"teul.cli.{module}.time", lambda: NOW)


@pytest.fixture
def usage(engine: FakeEngine) -> None:
    engine.routes = {"GET /system/df": reply(USAGE)}


@pytest.mark.usefixtures("usage")
def test_the_summary(teul: CommandLine) -> None:
    assert teul("system", "df").out == (
        "TYPE            TOTAL     ACTIVE    SIZE      RECLAIMABLE\n"
        "Images          2         1         10MB      4MB (40%)\n"
        "Containers      2         1         4kB       3kB (75%)\n"
        "Local Volumes   4         1         400B      300B (75%)\n"
        "Build Cache     3         1         59B       9B\n"
    )
    assert json.loads(teul("system", "df", "--format", "json").out.splitlines()[0]) == {
        "Active": "1",
        "Reclaimable": "4MB (40%)",
        "Size": "10MB",
        "TotalCount": "2",
        "Type": "Images",
    }
    assert teul("system", "df", "--format", "{{.Type}}").out == "Images\nContainers\nLocal Volumes\nBuild Cache\n"
    assert teul("system", "df", "--format", "raw").out.startswith(
        "type: Images\ntotal: 2\nactive: 1\nsize: 10MB\nreclaimable: 4MB (40%)\n\n"
    )


def test_an_empty_engine(engine: FakeEngine, teul: CommandLine) -> None:
    engine.routes = {"GET /system/df": reply({"LayersSize": 0, "Images": None, "Containers": [], "Volumes": None, "BuildCache": None})}
    assert teul("system", "df").out.splitlines()[1].split() == ["Images", "0", "0", "0B", "0B"]
    assert "\nBuild cache usage: 0B\n\nCACHE ID   " in teul("system", "df", "-v").out


@pytest.mark.usefixtures("usage")
def test_everything(teul: CommandLine) -> None:
    assert teul("system", "df", "-v").out == (
        "Images space usage:\n\n"
        "REPOSITORY   TAG       IMAGE ID       CREATED       SIZE      SHARED SIZE   UNIQUE SIZE   CONTAINERS\n"
        "reg:5000/x   1         aaaaaaaaaaaa   2 hours ago   8MB       2MB           6MB           2\n"
        "<none>       <none>    bbbbbbbbbbbb   2 hours ago   4MB       N/A           N/A           0\n"
        "\nContainers space usage:\n\n"
        "CONTAINER ID   IMAGE     COMMAND   LOCAL VOLUMES   SIZE      CREATED       STATUS    NAMES\n"
        'cccccccccccc   x         "sh"      0               1kB       2 hours ago   Up        run\n'
        'dddddddddddd   x         "sh"      0               3kB       2 hours ago   Exited    old\n'
        "\nLocal Volumes space usage:\n\n"
        "VOLUME NAME   LINKS     SIZE\n"
        "used          1         100B\n"
        "free          0         300B\n"
        "unknown       0         -1B\n"
        "new           N/A       N/A\n"
        "\nBuild cache usage: 59B\n\n"
        "CACHE ID        CACHE TYPE   SIZE      CREATED       LAST USED           USAGE     SHARED\n"
        "first           source       7B        2 hours ago                       0         true\n"
        "free            regular      9B        2 hours ago   2 hours ago         0         false\n"
        "latelatelate*   regular      50B       2 hours ago   About an hour ago   3         false\n"
    )


@pytest.mark.usefixtures("usage")
def test_templates_of_everything(teul: CommandLine) -> None:
    format_ = '{{range .Volumes}}{{.Name}}:{{.Label "a"}}:{{.Group}} {{end}}{{range .BuildCache}}{{.Parent}}|{{.LastUsedAt}}|{{.CreatedAt}} {{end}}'
    assert teul("system", "df", "-v", "--format", format_).out == (
        "used:b:N/A free::N/A unknown::N/A new::N/A p||2023-11-14 20:13:20 +0000 UTC "
        "|2023-11-14 20:13:20 +0000 UTC|2023-11-14 20:13:20 +0000 UTC "
        "p1, p2|2023-11-14 21:13:20 +0000 UTC|2023-11-14 20:13:20.12 +0000 UTC "
    )
    document = json.loads(teul("system", "df", "-v", "--format", "json").out)
    assert list(document) == ["Images", "Containers", "Volumes", "BuildCache"]
    assert (document["Containers"][0]["ID"], document["Volumes"][0]["Labels"]) == ("c" * 64, "a=b")
    for kind, rows in document.items():
        assert json.loads(teul("system", "df", "-v", "--format", f"{{{{json .{kind}}}}}").out) == rows
    assert json.loads(teul("system", "df", "-v", "--format", "{{json .}}").out) == document
    lines = teul("system", "df", "-v", "--format", "raw").out.splitlines()
    assert sum(line.startswith("type: ") for line in lines) == 11
    outcome = teul("system", "df", "-v", "--format", "{{.X}}")
    assert (outcome.status, outcome.out) == (1, "")
    assert outcome.err.startswith("template parsing error: ")


FOUND = [
    {"name": "x", "description": "The first\nline " + "long " * 20, "star_count": 12, "is_official": True},
    {"name": "someone/x", "description": "", "star_count": 0, "is_official": False},
]


def test_search(engine: FakeEngine, teul: CommandLine) -> None:
    engine.routes = {"GET /images/search": reply(FOUND)}
    assert teul("search", "x").out == (
        "NAME        DESCRIPTION                                     STARS     OFFICIAL\n"
        "x           The first line long long long long long long…   12        [OK]\n"
        "someone/x                                                   0         \n"
    )
    assert "long long \n" in teul("search", "--no-trunc", "--format", "{{.Description}}", "x").out
    assert teul("search", "--format", "{{.Name}} {{.IsOfficial}}", "x").out == "x [OK]\nsomeone/x \n"
    assert json.loads(teul("search", "--format", "json", "x").out.splitlines()[1]) == {
        "Description": "",
        "IsOfficial": "false",
        "Name": "someone/x",
        "StarCount": "0",
    }


def test_what_search_asks_for(engine: FakeEngine, teul: CommandLine) -> None:
    directory = teul.directory / ".docker"
    directory.mkdir()
    (directory / "config.json").write_text(json.dumps({"auths": {"reg:5000": {"auth": base64.b64encode(b"ann:secret").decode()}}}))
    engine.routes = {"GET /images/search": [reply([]), reply(None), failure(500, "no")]}
    outcome = teul("search", "--limit", "5", "-f", "stars=3", "-f", "is-automated=true", "reg:5000/x")
    assert outcome.err.startswith('WARNING: the "is-automated" filter is deprecated')
    assert engine.requests[0].query == {
        "term": ["reg:5000/x"],
        "limit": ["5"],
        "filters": ['{"stars":{"3":true},"is-automated":{"true":true}}'],
    }
    assert json.loads(base64.urlsafe_b64decode(engine.requests[0].headers["x-registry-auth"]))["username"] == "ann"
    assert teul("search", "a/b").status == 0
    assert engine.requests[1].headers["x-registry-auth"] == "e30="
    assert teul("search", "x").err == "Error response from daemon: no\n"
