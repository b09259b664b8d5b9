"""Links on the default bridge: who may be linked to, by which names, and what becomes of a link when either end changes."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from support.container_records import container_record
from teul.errors import Conflict, InvalidParameter, NotFound, System, TeulError
from teul.model.container import Container, ContainerEndpoint, LinkedContainer
from teul.model.host_config import HostConfig
from teul.model.lifecycle import started
from teul.model.network import BRIDGE
from unit.services.containers.world import World, world

CHILD, PARENT, OTHER = "c" * 64, "a" * 64, "b" * 64


@pytest.fixture
async def engine(tmp_path: Path) -> AsyncIterator[World]:
    async with world(tmp_path) as made:
        yield made


async def add(engine: World, container_id: str, name: str, *, mode: str = "bridge", links: dict[str, str] | None = None) -> Container:
    container = container_record(container_id, name=name)
    container.config.hostname = f"host-{name}"
    container.host_config.network_mode = mode
    container.links = {alias: LinkedContainer(id=child, name="old") for alias, child in (links or {}).items()}
    engine.registry.reserve_name(name, container_id)
    await engine.registry.add(container)
    return container


def run(container: Container, address: str = "") -> None:
    container.state = started(container.state, pid=1, now_ns=1)
    if address:
        container.endpoints = {BRIDGE: ContainerEndpoint(network_name=BRIDGE, network_id="n", endpoint_id="e", ipv4=address)}


def asked(*links: str, mode: str = "bridge") -> HostConfig:
    return HostConfig(links=list(links), network_mode=mode)


def hosts_of(engine: World, container: Container, text: str | None = None) -> str:
    directory = Path(engine.launcher.directories.container(container.id))
    if text is not None:
        os.makedirs(directory, exist_ok=True)
        (directory / "hosts").write_text(text)
    return (directory / "hosts").read_text()


async def test_a_link_is_to_a_container_by_name_or_id(engine: World) -> None:
    child = await add(engine, CHILD, "store")
    known = LinkedContainer(id=child.id, name="store")
    links = engine.launcher.links
    assert links.resolve("web", asked("store:db", "store", f"{CHILD[:12]}:x", "/store:/web/y")) == dict.fromkeys(
        ("db", "store", "x", "y"), known
    )
    assert links.resolve("web", asked("store:db", mode="mine")) == {}
    assert links.resolve("web", asked("store:db", "store:db", "store:..", "store:")) == {"db": known}


async def test_a_container_that_shares_a_network_stands_for_the_one_that_it_shares_it_with(engine: World) -> None:
    await add(engine, CHILD, "store")
    await add(engine, OTHER, "guest", mode=f"container:{CHILD}")
    assert engine.launcher.links.resolve("web", asked("guest:db")) == {"db": LinkedContainer(id=CHILD, name="store")}


@pytest.mark.parametrize(
    ("link", "kind", "message"),
    [
        ("nosuch:db", InvalidParameter, "could not get container for nosuch: No such container: nosuch"),
        (":db", InvalidParameter, 'could not get container for : invalid name or ID supplied: ""'),
        ("a:b:c", System, "bad format for links: a:b:c"),
        ("", System, "empty string specified for links"),
        (
            "hosted",
            InvalidParameter,
            "conflicting options: host type networking can't be used with links. This would result in undefined behavior",
        ),
    ],
)
async def test_what_cannot_be_linked_to(engine: World, link: str, kind: type[TeulError], message: str) -> None:
    await add(engine, CHILD, "hosted", mode="host")
    with pytest.raises(kind) as caught:
        engine.launcher.links.resolve("web", asked(link))
    assert caught.value.message == message


async def test_a_child_is_found_by_its_parents_name_for_it(engine: World) -> None:
    child = await add(engine, CHILD, "store")
    parent = await add(engine, PARENT, "web", links={"db": CHILD})
    assert engine.registry.get("/web/db") is child
    assert engine.registry.links.names_of(CHILD) == ["web/db"]
    await engine.registry.change(parent, name="site")
    assert engine.registry.get("site/db") is child
    with pytest.raises(NotFound):
        engine.registry.get("web/db")
    await engine.registry.remove(parent)
    assert engine.registry.links.names_of(CHILD) == []
    assert engine.registry.find("site/db") is None


async def test_the_next_engine_knows_the_links(engine: World, tmp_path: Path) -> None:
    await add(engine, PARENT, "web", links={"db": CHILD})
    await add(engine, CHILD, "store")
    again = World(engine.registry._database, tmp_path, engine.tasks, engine.slow)
    await again.registry.open()
    assert again.registry.get("web/db").name == "store"


async def test_links_are_shown_by_the_childs_name_of_now_or_its_last(engine: World) -> None:
    child = await add(engine, CHILD, "store")
    parent = await add(engine, PARENT, "web", links={"db": CHILD})
    assert engine.launcher.links.shown(parent) == ["/store:/web/db"]
    await engine.registry.change(child, name="shop")
    await engine.launcher.links.renamed(child)
    await engine.registry.remove(child)
    assert engine.launcher.links.shown(parent) == ["/shop:/web/db"]


async def test_a_start_wants_its_children_running_on_the_default_bridge(engine: World) -> None:
    child = await add(engine, CHILD, "store")
    parent = await add(engine, PARENT, "web", links={"db": CHILD})
    links = engine.launcher.links
    run(parent, "172.17.0.3")
    with pytest.raises(System) as caught:
        links.of(parent)
    assert caught.value.message == "Cannot link to a non running container: /store AS /web/db"
    run(child, "172.17.0.2")
    assert [link.child for link in links.of(parent)] == [child]
    child.host_config.network_mode, child.endpoints = "mine", {}
    with pytest.raises(System) as caught:
        links.of(parent)
    assert caught.value.message == "Cannot link to /store, as it does not belong to the default network"
    await engine.registry.remove(child)
    with pytest.raises(System) as caught:
        links.of(parent)
    assert caught.value.message == "Cannot link to a non running container: /old AS /web/db"
    parent.endpoints = {}
    assert links.of(parent) == []


async def test_a_child_with_another_address_is_told_of_to_those_that_run(engine: World) -> None:
    child = await add(engine, CHILD, "store")
    parent = await add(engine, PARENT, "web", links={"db": CHILD})
    still = await add(engine, OTHER, "still", links={"db": CHILD})
    line = "172.17.0.2\tdb host-store store\n"
    hosts_of(engine, parent, line)
    hosts_of(engine, still, line)
    run(parent, "172.17.0.3")
    run(child, "172.17.0.9")
    await engine.launcher.links.joined(child)
    assert hosts_of(engine, parent) == "172.17.0.9\tdb host-store store\n"
    assert hosts_of(engine, still) == line
    assert engine.launcher.links.environment(parent) == ["DB_NAME=/web/db"]


async def test_a_parent_that_comes_to_the_bridge_is_told_of_its_children(engine: World) -> None:
    child = await add(engine, CHILD, "store")
    parent = await add(engine, PARENT, "web", links={"db": CHILD})
    hosts_of(engine, parent, "127.0.0.1\tlocalhost\n")
    run(child, "172.17.0.2")
    run(parent, "172.17.0.3")
    await engine.launcher.links.joined(parent)
    assert hosts_of(engine, parent) == "127.0.0.1\tlocalhost\n172.17.0.2\tdb host-store store\n"


async def test_a_link_is_removed_by_its_name_and_its_ends_stay(engine: World) -> None:
    child = await add(engine, CHILD, "store")
    parent = await add(engine, PARENT, "web", links={"db": CHILD, "x": CHILD})
    run(child, "172.17.0.2")
    run(parent, "172.17.0.3")
    hosts_of(engine, parent, "127.0.0.1\tlocalhost\n172.17.0.2\tdb host-store store\n172.17.0.2\tx host-store store\n")
    await engine.lifecycle.remove("web/db", link=True)
    assert list(parent.links) == ["x"]
    assert engine.registry.all() == sorted([child, parent], key=lambda each: each.created_at_ns, reverse=True)
    assert hosts_of(engine, parent) == "127.0.0.1\tlocalhost\n172.17.0.2\tx host-store store\n"
    with pytest.raises(NotFound):
        await engine.lifecycle.remove("web/db", link=True)


@pytest.mark.parametrize(
    ("reference", "message"),
    [
        ("store", "Conflict, cannot remove the default link name of the container"),
        (f"/{CHILD}", "Conflict, cannot remove the default link name of the container"),
        ("web/a/b", "Cannot get parent /web/a for link name /web/a/b"),
    ],
)
async def test_what_is_no_link_is_not_removed(engine: World, reference: str, message: str) -> None:
    await add(engine, CHILD, "store")
    await add(engine, PARENT, "web", links={"a/b": CHILD})
    with pytest.raises((Conflict, System)) as caught:
        await engine.launcher.links.remove(reference)
    assert caught.value.message == message


async def test_ports_are_open_between_those_who_are_both_on_the_default_bridge(engine: World) -> None:
    child = await add(engine, CHILD, "store")
    parent = await add(engine, PARENT, "web", links={"db": CHILD, "x": CHILD})
    await add(engine, OTHER, "still", links={"db": CHILD})
    links = engine.launcher.links
    run(child, "172.17.0.2")
    await links.open_ports()
    assert engine.linked.pairs == set()
    run(parent, "172.17.0.3")
    hosts_of(engine, parent, "")
    await links.joined(parent)
    assert engine.linked.pairs == {(PARENT, CHILD)}
    child.endpoints = {}
    await links.left(child)
    assert engine.linked.pairs == set()


async def test_a_link_that_is_removed_closes_its_ports(engine: World) -> None:
    child = await add(engine, CHILD, "store")
    parent = await add(engine, PARENT, "web", links={"db": CHILD})
    run(child, "172.17.0.2")
    run(parent, "172.17.0.3")
    hosts_of(engine, parent, "")
    await engine.launcher.links.open_ports()
    await engine.lifecycle.remove("web/db", link=True)
    assert engine.linked.pairs == set()


async def test_a_container_ends_whether_or_not_its_ports_can_be_closed(engine: World, caplog: pytest.LogCaptureFixture) -> None:
    parent = await add(engine, PARENT, "web", links={"db": CHILD})
    engine.linked.error = System("nft: Operation not permitted")
    await engine.launcher.links.left(parent)
    assert "the ports of the links of container web are still open: nft: Operation not permitted" in caplog.text
    with pytest.raises(System):
        await engine.launcher.links.open_ports()
