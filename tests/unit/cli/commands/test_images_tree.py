"""`teul images --tree`: as docker draws it (the conformance tier compares the bytes), and with `--layers` what everything takes."""

from __future__ import annotations

from typing import Any

import pytest

from unit.cli.fake_engine import CommandLine, FakeEngine, failure, reply

GB = 1_000_000_000


def manifest(digest: str, architecture: str, *, available: bool = True, containers: tuple[str, ...] = (), **more: Any) -> dict[str, Any]:
    platform = {"os": "linux", "architecture": architecture, **more}
    return {
        "ID": "sha256:" + digest * 64,
        "Available": available,
        "Size": {"Content": GB, "Total": 3 * GB},
        "Kind": "image",
        "ImageData": {"Platform": platform, "Containers": list(containers), "Size": {"Unpacked": 2 * GB}},
    }


ATTESTATION = {
    "ID": "sha256:" + "e" * 64,
    "Available": True,
    "Size": {"Content": GB // 2, "Total": GB // 2},
    "Kind": "attestation",
    "AttestationData": {"For": "sha256:" + "b" * 64},
}
IMAGES = [
    {"Id": "sha256:" + "d" * 64, "RepoTags": [], "RepoDigests": [], "Created": 30, "Size": GB, "Containers": 0, "Manifests": []},
    {
        "Id": "sha256:" + "a" * 64,
        "RepoTags": ["x:1", "longer:1"],
        "RepoDigests": [],
        "Created": 10,
        "Size": 2 * GB,
        "Containers": 0,
        "Manifests": [
            manifest("b", "amd64", containers=("one",)),
            ATTESTATION,
            manifest("c", "arm64", available=False, variant="v8"),
        ],
    },
    {"Id": "sha256:" + "f" * 64, "RepoTags": None, "RepoDigests": ["x@sha256:f"], "Created": 20, "Size": 1, "Manifests": None},
]
HEAD = (
    "WARNING: This is an experimental feature. The output may change and shouldn't be depended on.\n"
    "                                                              Info ->  U In Use \n\n"
)


@pytest.fixture(autouse=True)
def listed(engine: FakeEngine) -> None:
    engine.routes = {"GET /version": reply({"ApiVersion": "1.51"}), "GET /images/json": reply(IMAGES)}


def plain(text: str) -> str:
    assert text.startswith(HEAD)
    return text.removeprefix(HEAD).replace("\x1b[39m\x1b[1m", "").replace("\x1b[0m", "")


def test_platforms_stand_below_their_image(engine: FakeEngine, teul: CommandLine) -> None:
    outcome = teul("images", "--tree", "-f", "label=a", "x*")
    assert plain(outcome.out) == (
        "IMAGE                   ID             DISK USAGE   CONTENT SIZE   EXTRA\n"
        "<untagged>              ffffffffffff           1B             0B        \n\n"
        "longer:1\n"
        "x:1                     aaaaaaaaaaaa          2GB          2.5GB   U    \n"
        "├─ linux/amd64          bbbbbbbbbbbb          3GB            1GB   U    \n"
        "└─ linux/arm64/v8       cccccccccccc          3GB            1GB        \n\n"
    )
    [request] = engine.made("GET", "/images/json")
    assert request.query == {"manifests": ["1"], "filters": ['{"label":{"a":true},"reference":{"x*":true}}']}


def test_what_has_no_name_is_shown_when_everything_is(teul: CommandLine) -> None:
    assert "\n<untagged>              dddddddddddd          1GB" in plain(teul("image", "ls", "--tree", "--all").out)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("-q",), "--quiet is not yet supported with --tree"),
        (("--no-trunc",), "--no-trunc is not yet supported with --tree"),
        (("--digests",), "--show-digest is not yet supported with --tree"),
        (("--format", "json"), "--format is not yet supported with --tree"),
    ],
)
def test_what_does_not_go_with_it(teul: CommandLine, options: tuple[str, ...], message: str) -> None:
    outcome = teul("images", "--tree", *options)
    assert (outcome.status, outcome.out, outcome.err) == (1, "", message + "\n")


def test_an_engine_that_is_too_old(engine: FakeEngine, teul: CommandLine) -> None:
    refusal = '"--tree" requires API version 1.47, but the Docker daemon API version is {}\n'
    engine.routes["GET /version"] = reply({"ApiVersion": "1.9"})
    assert teul("images", "--tree").err == refusal.format("1.9")
    teul.environment["DOCKER_API_VERSION"] = "1.46"
    assert teul("images", "--tree").err == refusal.format("1.46")


def layer(digest: str, shared: int, images: int) -> dict[str, Any]:
    sizes = {"Size": GB, "Content": GB // 2, "DiskSize": 2 * GB, "SharedSize": shared, "Images": images}
    return {"DiffID": "sha256:" + digest * 64, "ChainID": "sha256:" + "0" * 64, **sizes}


MEASURED = {
    "TotalSize": 5 * GB,
    "Images": [
        {
            "Id": "sha256:" + "a" * 64,
            "DiskSize": 4 * GB,
            "SharedSize": GB,
            "Manifests": [
                {
                    "ID": "sha256:" + "b" * 64,
                    "DiskSize": 4 * GB,
                    "SharedSize": GB,
                    "Layers": [layer("1", GB, 3), layer("2", 0, 1)],
                },
                {"ID": "sha256:" + "c" * 64, "DiskSize": 0, "SharedSize": 0, "Layers": []},
            ],
        }
    ],
}


def test_layers_and_what_they_take(engine: FakeEngine, teul: CommandLine) -> None:
    """The image that is not among what was measured has gone meanwhile."""
    engine.routes["GET /teul/images/layers"] = reply(MEASURED)
    assert plain(teul("images", "--tree", "--layers").out) == (
        "IMAGE                   ID              ON DISK         SHARED   EXTRA   DISK USAGE   CONTENT SIZE\n"
        "<untagged>              ffffffffffff                                             1B             0B\n\n"
        "longer:1\n"
        "x:1                     aaaaaaaaaaaa        4GB            1GB   U              2GB          2.5GB\n"
        "├─ linux/amd64          bbbbbbbbbbbb        4GB            1GB   U              3GB            1GB\n"
        "│  ├─ layer 1           111111111111        2GB       1GB in 3                  1GB          500MB\n"
        "│  └─ layer 2           222222222222        2GB             0B                  1GB          500MB\n"
        "└─ linux/arm64/v8       cccccccccccc         0B             0B                  3GB            1GB\n\n"
        "All images on disk: 5GB\n"
    )


def test_layers_without_the_tree(teul: CommandLine) -> None:
    outcome = teul("images", "--layers")
    assert (outcome.status, outcome.err) == (1, "--layers is part of --tree\n")


def test_an_engine_that_does_not_tell_layers(engine: FakeEngine, teul: CommandLine) -> None:
    outcome = teul("images", "--tree", "--layers")
    assert (outcome.status, outcome.out) == (1, "")
    assert outcome.err == "--layers needs Teul's engine: the one at the other end does not tell what layers take\n"
    engine.routes["GET /teul/images/layers"] = failure(500, "broken")
    assert teul("images", "--tree", "--layers").err == "Error response from daemon: broken\n"
