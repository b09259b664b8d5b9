"""Commits and prunings over HTTP: what is asked for, and the answers that Docker's clients read."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest

from teul.model.filter import Filters
from teul.oci.digest import Digest
from teul.services.containers.commits import CommitOrder, Commits
from teul.services.containers.pruning import ContainerPruning
from unit.api.fake_services import IMAGE_ID
from unit.api.served_api import Api


class FakeCommits(Commits):
    """Makes one and the same image of every container."""

    def __init__(self) -> None:
        self.asked: list[tuple[str, CommitOrder]] = []

    async def commit(self, reference: str, order: CommitOrder) -> Digest:
        self.asked.append((reference, order))
        return Digest(IMAGE_ID)


class FakePruning(ContainerPruning):
    """Removes what the test says."""

    def __init__(self, *removed: str) -> None:
        self.removed = removed
        self.asked: list[Filters] = []

    async def prune(self, filters: Filters) -> tuple[Sequence[str], int]:
        self.asked.append(filters)
        return self.removed, 10 * len(self.removed)


@pytest.fixture
def commits(api: Api) -> FakeCommits:
    fake = api.services.commits = FakeCommits()
    return fake


async def test_all_of_it_is_passed_on(api: Api, commits: FakeCommits) -> None:
    path = "/commit?container=box&repo=some/name&tag=1&author=me&comment=why&changes=ENV%20A=b&changes=USER%20x&pause=0"
    config = {"Cmd": ["x"], "labels": {"a": "b"}}
    assert await api.request("POST", path, json=config) == (201, {"Id": IMAGE_ID})
    ((reference, order),) = commits.asked
    assert reference == "box"
    assert order.reference is not None
    assert (order.reference.familiar, order.author, order.comment) == ("some/name:1", "me", "why")
    assert (order.changes, order.pause) == (["ENV A=b", "USER x"], False)
    assert order.config is not None
    assert (order.config.cmd, order.config.labels) == (["x"], {"a": "b"})


@pytest.mark.parametrize(
    "body",
    [
        {"data": b"null", "headers": {"Content-Type": "application/json"}},
        {"json": {}},
        {"json": {"Unknown": 1}},
        {"headers": {"Content-Type": "application/json"}},
    ],
    ids=repr,
)
async def test_a_body_that_says_nothing_is_no_config(api: Api, commits: FakeCommits, body: dict[str, Any]) -> None:
    assert (await api.request("POST", "/commit?container=box", **body))[0] == 201
    ((_, order),) = commits.asked
    assert order == CommitOrder(changes=[])


@pytest.mark.parametrize(
    ("query", "message"),
    [
        ("", 'invalid name or ID supplied: ""'),
        ("container=box&repo=Bad", "invalid reference format: repository name (library/Bad) must be lowercase"),
        ("container=box&repo=a&tag=-", "invalid tag format"),
        (f"container=box&repo=a@sha256:{'a' * 64}", "cannot import digest reference"),
    ],
)
async def test_what_cannot_be_meant_is_refused(api: Api, commits: FakeCommits, query: str, message: str) -> None:
    status, document = await api.request("POST", f"/commit?{query}", json={})
    assert (status, document["message"]) == (400, message)
    assert not commits.asked


async def test_pruning_tells_what_was_removed(api: Api) -> None:
    pruning = FakePruning("a", "b")
    api.services.container_pruning = pruning
    path = "/containers/prune?filters=%7B%22label%22:%7B%22x%22:true%7D%7D"
    assert await api.request("POST", path) == (200, {"ContainersDeleted": ["a", "b"], "SpaceReclaimed": 20})
    assert pruning.asked == [Filters({"label": ["x"]})]
    pruning.removed = ()
    assert await api.request("POST", "/containers/prune") == (200, {"ContainersDeleted": None, "SpaceReclaimed": 0})
