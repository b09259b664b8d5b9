"""What an image of a container says of itself; how a container stands still for it; and which containers are pruned."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from support.container_records import container_record
from teul.dockerfile.changes import InvalidChange
from teul.errors import InvalidParameter, System
from teul.linux import cgroups
from teul.model.config import ContainerConfig, HealthConfig
from teul.model.document import Empty
from teul.model.filter import Filters, InvalidFilter
from teul.model.lifecycle import Status
from teul.oci.image_config import Healthcheck
from teul.services.containers.commits import committed_config
from teul.services.containers.filters import check_prune_filters, prune_filter
from unit.services.containers.world import World, world

OWN = ContainerConfig(
    hostname="box",
    user="1:2",
    env=["A=1", "B=2"],
    cmd=["sleep", "1"],
    entrypoint=["env"],
    labels={"of": "box"},
    exposed_ports={"80/tcp": Empty()},
    volumes={"/v": Empty()},
    working_dir="/w",
    stop_signal="SIGUSR1",
    healthcheck=HealthConfig(test=["CMD", "true"], retries=2),
    shell=["/bin/ash", "-c"],
)


@pytest.fixture
async def here(tmp_path: Path) -> AsyncIterator[World]:
    async with world(tmp_path) as made:
        yield made


def test_without_a_word_the_image_has_what_the_container_has() -> None:
    config = committed_config(OWN, None, [])
    assert (config.user, config.env, config.cmd, config.entrypoint, config.labels) == (
        OWN.user,
        OWN.env,
        OWN.cmd,
        OWN.entrypoint,
        OWN.labels,
    )
    assert (config.exposed_ports, config.volumes, config.working_dir) == ({"80/tcp": {}}, {"/v": {}}, "/w")
    assert config.healthcheck == Healthcheck(test=["CMD", "true"], retries=2)
    assert (config.stop_signal, config.shell) == ("SIGUSR1", ["/bin/ash", "-c"])


def test_changes_are_of_the_containers_config() -> None:
    config = committed_config(OWN, None, ["ENV A=x$B C=3", "EXPOSE 81", "LABEL more=1", "CMD echo"])
    assert config.env == ["A=x2", "B=2", "C=3"]
    assert config.exposed_ports == {"80/tcp": {}, "81/tcp": {}}
    assert config.labels == {"of": "box", "more": "1"}
    assert config.cmd == ["/bin/ash", "-c", "echo"]


def test_another_entrypoint_takes_the_command_away() -> None:
    """docker: and nothing brings it back, for the container's own counts only where there is no entrypoint."""
    config = committed_config(OWN, None, ['ENTRYPOINT ["x"]'])
    assert (config.entrypoint, config.cmd) == (["x"], None)


def test_a_config_that_is_given_is_completed_by_the_containers() -> None:
    config = committed_config(OWN, ContainerConfig(cmd=["other"], env=["B=given"], labels={"own": "1"}), [])
    assert (config.cmd, config.entrypoint) == (["other"], ["env"])
    assert config.env == ["B=given", "A=1"]
    assert config.labels == {"of": "box", "own": "1"}
    assert (config.user, config.working_dir) == ("1:2", "/w")


def test_unknown_changes_are_refused() -> None:
    with pytest.raises(InvalidChange, match="RUN is not a valid change command"):
        committed_config(OWN, None, ["RUN x"])


async def test_a_container_stands_still_and_its_record_does_not_know(here: World, monkeypatch: pytest.MonkeyPatch) -> None:
    done: list[str] = []
    monkeypatch.setattr(cgroups, "freeze", lambda plan: done.append("freeze"))
    monkeypatch.setattr(cgroups, "thaw", lambda plan: done.append("thaw"))
    container = await here.add()
    await here.start(container)

    async def fail() -> None:
        async with here.lifecycle.standing_still(container, here.run(container)):
            assert (done, container.state.status) == (["freeze"], Status.RUNNING)
            raise System("the disk")

    with pytest.raises(System, match="the disk"):
        await fail()
    assert (done, container.state.status) == (["freeze", "thaw"], Status.RUNNING)


async def test_what_does_not_run_or_is_paused_is_left_alone(here: World, monkeypatch: pytest.MonkeyPatch) -> None:
    done: list[str] = []
    monkeypatch.setattr(cgroups, "freeze", lambda plan: done.append("freeze"))
    monkeypatch.setattr(cgroups, "thaw", lambda plan: done.append("thaw"))
    container = await here.add()
    async with here.lifecycle.standing_still(container, here.run(container)):
        assert done == []
    await here.start(container)
    await here.lifecycle.pause(container.id)
    async with here.lifecycle.standing_still(container, here.run(container)):
        assert done == ["freeze"]
    assert (done, container.state.status) == (["freeze"], Status.PAUSED)


async def test_a_container_that_ends_in_between_is_not_thawed_by_force(here: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cgroups, "freeze", lambda plan: None)
    container = await here.add()
    process = await here.start(container)
    async with here.lifecycle.standing_still(container, here.run(container)):
        process.end(137)


@pytest.mark.parametrize(
    ("filters", "wanted"),
    [
        ({}, True),
        ({"label": ["a"]}, True),
        ({"label": ["a=2"]}, False),
        ({"label!": ["a"]}, False),
        ({"label!": ["b"]}, True),
        ({"until": ["1000"]}, True),
        ({"until": ["999"]}, False),
        ({"until": ["10m"]}, False),
    ],
    ids=str,
)
def test_pruning_goes_by_labels_and_age(filters: dict[str, list[str]], wanted: bool) -> None:
    container = container_record(created_at_ns=1000 * 10**9)
    container.config.labels = {"a": "1"}
    assert prune_filter(Filters(filters), now_ns=1100 * 10**9)(container) is wanted


def test_filters_that_pruning_does_not_know_are_refused() -> None:
    with pytest.raises(InvalidFilter, match="invalid filter 'name'"):
        check_prune_filters(Filters({"name": ["x"]}))
    with pytest.raises(InvalidParameter, match="more than one until filter specified"):
        check_prune_filters(Filters({"until": ["1", "2"]}))
