"""What must hold whatever went wrong: the records, what the engine says, what lies on disk and what is on the host are one and the same."""

from __future__ import annotations

import contextlib
import os
import re
import sqlite3
import subprocess
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from faults.victim import EXIT_CODE, Victim
from support import processes
from support.polling import eventually
from teul.linux import nftables
from teul.model.container import Container
from teul.network.firewall.ports import forwardings
from teul.oci.reference import parse_reference
from teul.services.networks.records import bridge_of, wire_of
from teul.store.metadata import containers, images, networks

_PATIENCE_SECONDS = 5.0  # for what the engine removes in the background, and the kernel
_LITTLE_PATIENCE_SECONDS = 0.5


def assert_whole(victim: Victim) -> None:
    """Nothing is there without a record, nothing is missing of what has one, and the engine knows what its records say."""
    found: list[str] = []

    def is_whole() -> bool:
        found[:] = [*_records_and_files(victim), *_host(victim)]
        return not found

    try:
        eventually(is_whole, "", timeout_seconds=_LITTLE_PATIENCE_SECONDS if victim.is_hopeless else _PATIENCE_SECONDS)
    except AssertionError:
        raise AssertionError("\n  ".join(["not whole:", *found])) from None


def assert_usable(victim: Victim, name: str) -> None:
    """The container of that name can be removed; and another one created, started, ended and removed again."""
    if victim.find(name) is not None:
        victim.want(204, "DELETE", f"/containers/{name}?force=1")
    victim.run(name)
    assert_ends(victim, name)
    victim.want(204, "DELETE", f"/containers/{name}")
    assert_whole(victim)


def assert_ends(victim: Victim, name: str) -> None:
    """It runs as if nothing had been: it can be told something, its log has that, and its exit code arrives."""
    assert victim.status(name) == "running"
    victim.tell(name, "something")
    assert victim.want(200, "POST", f"/containers/{name}/wait").json()["StatusCode"] == EXIT_CODE
    assert_ended(victim, name, "something")


def assert_ended(victim: Victim, name: str, word: str = "go") -> None:
    """It came to its end, and nothing of that was lost."""
    eventually(lambda: victim.status(name) == "exited", f"{name} has ended")
    assert victim.find(name)["State"]["ExitCode"] == EXIT_CODE
    log = victim.log(name)
    assert "ready\n" in log
    assert f"told {word}\n" in log


def _read(victim: Victim) -> tuple[list[Container], images.Rows, set[tuple[str, str]]]:
    """The records of containers and images, and (network, container) of the addresses that are held."""
    connection = sqlite3.connect(f"file:{victim.root}/teul.db?mode=ro", uri=True)
    try:
        connection.row_factory = sqlite3.Row
        held = {(row.network_id, row.container_id) for row in networks.load_held(connection)}
        return containers.all_containers(connection), images.read_all(connection), held
    finally:
        connection.close()


def _records_and_files(victim: Victim) -> Iterator[str]:
    recorded, rows, held = _read(victim)
    told = victim.want(200, "GET", "/containers/json?all=1").json()
    yield from _differences(
        "container", {row.id for row in recorded}, recorded="record", found={item["Id"] for item in told}, known="answer"
    )
    by_id: dict[str, Any] = {item["Id"]: item for item in told}
    for row in recorded:
        item = by_id.get(row.id, {"Names": [f"/{row.name}"], "State": row.state.status})
        by_links = [f"/{parent.name}/{alias}" for parent in recorded for alias, child in parent.links.items() if child.id == row.id]
        if item["Names"] != sorted([f"/{row.name}", *by_links]):
            yield f"container {row.name} of the records is called {item['Names']}"
        if item["State"] != row.state.status:
            yield f"container {row.name} is {row.state.status} by its record, and {item['State']} by what the engine says"
    active = {row.id for row in recorded if row.state.has_process}
    connected = {(endpoint.network_id, row.id) for row in recorded if row.id in active for endpoint in row.endpoints.values()}
    yield from _differences("address", connected, recorded="endpoint", found=held, known="address")
    kept = set(os.listdir(victim.root / "containers"))
    yield from _differences("container", {row.id for row in recorded}, recorded="record", found=kept, known="directory")
    bundles = set(os.listdir(victim.run_root / "containers"))
    yield from _differences("container", active, recorded="running container", found=bundles, known="bundle")
    yield from _images(victim, rows)
    yield from _volumes(victim)
    yield from (f"unfinished: {name}" for name in os.listdir(victim.root / "tmp"))


def _volumes(victim: Victim) -> Iterator[str]:
    """Every volume that is known has its directory, with nothing unfinished in it, and there is no other; what is mounted there is in use."""
    told = {item["Name"] for item in victim.want(200, "GET", "/volumes").json()["Volumes"]}
    yield from _differences("volume", told, recorded="answer", found=set(os.listdir(victim.root / "volumes")), known="directory")
    for name in told:
        yield from (f"unfinished: {name}/{entry}" for entry in os.listdir(victim.root / "volumes" / name) if entry != "_data")
    for item in victim.want(200, "GET", "/containers/json?all=1").json():
        missing = {mount["Name"] for mount in item["Mounts"] if mount["Type"] == "volume"} - told
        yield from (f"volume {name} of a container is not there" for name in missing)


def _images(victim: Victim, rows: images.Rows) -> Iterator[str]:
    told = victim.want(200, "GET", "/images/json?all=1").json()
    shown = {str(row.image_id) for row in rows.images if not row.deleted}
    yield from _differences("image", shown, recorded="record", found={item["Id"] for item in told}, known="answer")
    names = {(str(row.image_id), parse_reference(row.reference).familiar) for row in rows.tags}
    answered = {(item["Id"], name) for item in told for name in item["RepoTags"] or () if name != "<none>:<none>"}
    yield from _differences("name", names, recorded="record", found=answered, known="answer")
    blobs = {f"{path.parent.name}:{path.name}" for path in (victim.root / "blobs").glob("*/*")}
    yield from _differences("blob", {str(digest) for digest in rows.blobs}, recorded="record", found=blobs, known="file")
    layers = {path.parent.name for path in (victim.root / "snapshots").glob("*/fs")} | set(os.listdir(victim.root / "snapshots"))
    yield from _differences("layer", {row.chain_id.hex for row in rows.snapshots}, recorded="record", found=layers, known="directory")
    needed = {str(row.image_id) for row in rows.images}
    yield from (f"blob {digest} of an image has no record" for digest in needed - {str(digest) for digest in rows.blobs})


def _differences(what: str, wanted: set[Any], *, recorded: str, found: set[Any], known: str) -> Iterator[str]:
    yield from (f"{what} {item}: {recorded} without {known}" for item in sorted(wanted - found))
    yield from (f"{what} {item}: {known} without {recorded}" for item in sorted(found - wanted))


def _host(victim: Victim) -> Iterator[str]:
    recorded, _rows, _held = _read(victim)
    active = {row.id: row for row in recorded if row.state.has_process}
    yield from _differences("container", set(active), recorded="running container", found=set(victim.cgroups()), known="cgroup")
    for row in active.values():
        if not processes.is_alive(row.state.pid):
            yield f"container {row.name} is {row.state.status}, its process {row.state.pid} is not there"
        elif (is_paused := row.state.status == "paused") != _is_frozen(victim.cgroups().get(row.id, [])):
            yield f"container {row.name} is {row.state.status}, and {'not ' if is_paused else ''}frozen"
    for row in active.values():
        route = subprocess.run(
            ["nsenter", "-t", str(row.state.pid), "-n", "ip", "-4", "route", "show", "default"], capture_output=True, check=False
        )
        gateways = {endpoint.gateway for endpoint in row.endpoints.values()} - {""}
        if gateways and not any(f"via {gateway} ".encode() in route.stdout for gateway in gateways):
            yield f"container {row.name} has no way out by a network that it is on: {route.stdout!r}"
    links = {endpoint.host_interface for row in active.values() for endpoint in row.endpoints.values()} - {""}
    yield from _differences("link", links, recorded="endpoint", found=set(victim.links()), known="link")
    yield from _networks(victim)
    yield from _ports(victim, active.values())
    yield from _policies(victim, active.values())
    yield from _links(victim, active)
    yield from _processes(victim, {row.state.pid for row in active.values()})


def _networks(victim: Victim) -> Iterator[str]:
    with contextlib.closing(sqlite3.connect(f"file:{victim.root}/teul.db?mode=ro", uri=True)) as connection:
        connection.row_factory = sqlite3.Row
        recorded = {network.name: network for network in networks.load_networks(connection)}
    told = {item["Name"] for item in victim.want(200, "GET", "/networks").json()}
    yield from _differences("network", set(recorded), recorded="record", found=told, known="answer")
    wanted = {bridge_of(network).name for network in recorded.values() if network.driver == "bridge" and not network.config_only}
    yield from _differences("network", wanted, recorded="record", found=victim.bridges(), known="bridge")
    made = {wire_of(network).parent for network in recorded.values() if network.is_wire and not network.config_only}
    made = {name for name in made if "." in name or name.startswith(("dm-", "di-"))}
    yield from _differences("network", made, recorded="record", found=victim.parents(), known="parent")
    rules = subprocess.run(
        ["nft", "list", "set", "inet", victim.names.table, "bridges"], check=False, capture_output=True, text=True
    ).stdout
    yield from (f"network {name}: no element of the firewall" for name in wanted if f'"{name}"' not in rules)


def _ports(victim: Victim, active: Iterable[Container]) -> Iterator[str]:
    """What the firewall leads to containers, and what their records say."""
    wanted = {
        f"{each.protocol} . {each.port} : {each.target} . {each.target_port}"
        for container in active
        for endpoint in container.endpoints.values()
        for each in forwardings(endpoint)
    }
    found: set[str] = set()
    for name in ("ports4", "ports6"):
        command = ["nft", "-n", "list", "map", "inet", victim.names.table, name]
        listing = subprocess.run(command, check=False, capture_output=True, text=True).stdout
        elements = re.search(r"elements = \{(.*?)\}", listing, re.DOTALL)
        found |= {_by_name(element) for element in elements[1].split(",")} if elements else set()
    yield from _differences("port", wanted, recorded="endpoint", found=found, known="element")


def _policies(victim: Victim, active: Iterable[Container]) -> Iterator[str]:
    """Who is held to an egress policy by the firewall, and of whom the records say so."""
    with contextlib.closing(sqlite3.connect(f"file:{victim.root}/teul.db?mode=ro", uri=True)) as connection:
        connection.row_factory = sqlite3.Row
        wanted = {bridge_of(network).name for network in networks.load_networks(connection) if network.egress is not None}
    wanted |= {
        endpoint.ipv4 for container in active if container.host_config.egress is not None for endpoint in container.endpoints.values()
    }
    found: set[str] = set()
    if victim.has_network():
        with contextlib.suppress(FileNotFoundError):  # the firewall is made in the background
            listed = nftables.list_elements("inet", victim.names.table, ["policed_networks", "policed4"])
            found = {str(element.values[-1]) for elements in listed.values() for element in elements}
    yield from _differences("policy of", wanted, recorded="record", found=found, known="element")


def _links(victim: Victim, active: dict[str, Container]) -> Iterator[str]:
    """What the firewall lets pass between containers that are kept apart, and what the records of those say."""
    options = victim.want(200, "GET", "/networks/bridge").json()["Options"]
    wanted = {
        f"{parent.endpoints['bridge'].ipv4} to {child.endpoints['bridge'].ipv4}, {port}"
        for parent in active.values()
        for linked in parent.links.values()
        if (child := active.get(linked.id)) is not None and options["com.docker.network.bridge.enable_icc"] == "false"
        for port in child.config.exposed_ports or ()
    }
    found: set[str] = set()
    if victim.has_network():
        with contextlib.suppress(FileNotFoundError):  # the firewall is made in the background
            for element in nftables.list_elements("inet", victim.names.table, ["linked4"])["linked4"]:
                _bridge, source, target, protocol, port = element.values
                found.add(f"{source} to {target}, {port}/{ {6: 'tcp', 17: 'udp'}[int(protocol)] }")
    yield from _differences("link from", wanted, recorded="record", found=found, known="element")


def _by_name(element: str) -> str:
    """`nft -n` has protocols by number."""
    number, rest = element.strip().split(" ", 1)
    return f"{ {'6': 'tcp', '17': 'udp'}.get(number, number) } {rest}".replace("  ", " ").strip()


def _is_frozen(cgroups: list[Path]) -> bool:
    for directory in cgroups:
        for file, word in (("freezer.state", "FROZEN"), ("cgroup.freeze", "1")):
            if (directory / file).exists() and (directory / file).read_text().strip() == word:
                return True
    return False


def _processes(victim: Victim, inits: set[int]) -> Iterator[str]:
    """Processes of the engine and its predecessors that have nothing to do: pytest inherits what loses its parent (conftest)."""
    keepers = [pid for pid in processes.children_of(victim.pid) if processes.command_line(pid) == "teul: keeper"]
    wanted = {processes.namespace_of(pid, "pid") for pid in inits}
    own = processes.namespace_of(os.getpid(), "pid")
    has_agent = False
    for pid in processes.descendants_of(os.getpid()):
        title, namespace = processes.command_line(pid), processes.namespace_of(pid, "pid")
        if pid in {victim.pid, *keepers[-1:]} or title == "teul: standby" or not processes.is_alive(pid) or namespace is None:
            continue
        if title == "teul: network agent" and not has_agent:
            has_agent = True  # the engine's only one, for as long as there is an engine
            continue
        guards = title == "teul: keeper" and inits & set(processes.descendants_of(pid))
        if not guards and (namespace == own or namespace not in wanted):
            yield f"process {pid} ({title}) serves no running container"
