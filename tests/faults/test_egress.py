"""What containers may reach, when an engine fails or is killed while that changes: it is as the record says, or soon will be."""

from __future__ import annotations

from faults.judge import assert_ends, assert_usable, assert_whole
from faults.victim import Victim, cases
from support.needs import needs

pytestmark = [needs("root", "busybox", "overlayfs", "nft")]

_NOTHING = {"Egress": ["none"]}


@cases({"networks.egress.changed": "kill cancel error", "networks.ports.published": "kill"})
def test_a_policed_container_starts_or_not(victim: Victim, point: str, way: str, occurrence: int) -> None:
    victim.create("hit", HostConfig=_NOTHING | {"PortBindings": {"80/tcp": [{}]}})
    victim.strike(point, way, "POST", "/containers/hit/start", occurrence=occurrence)
    assert_whole(victim)
    if victim.status("hit") != "running":
        victim.want(204, "POST", "/containers/hit/start")
    assert_whole(victim)
    assert_ends(victim, "hit")
    assert_usable(victim, "hit")


@cases(
    {
        "networks.egress.changed": "kill cancel error",
        "containers.egress.assigned": "kill cancel error",
        "store.transaction.worked": "kill full",
    },
)
def test_a_policy_of_a_container_is_changed_or_not(victim: Victim, point: str, way: str, occurrence: int) -> None:
    victim.run("hit")
    victim.strike(point, way, "POST", "/teul/containers/hit/egress", _NOTHING, occurrence=occurrence)
    assert_whole(victim)
    assert victim.find("hit")["HostConfig"].get("Egress") in (None, ["none"])
    victim.want(200, "POST", "/teul/containers/hit/egress", {"Egress": ["lan"]})
    assert_whole(victim)
    victim.want(200, "POST", "/teul/containers/hit/egress", {"Egress": ["any"]})
    assert_whole(victim)
    assert_ends(victim, "hit")
    assert_usable(victim, "hit")


@cases(
    {
        "networks.egress.changed": "kill cancel error",
        "networks.egress.assigned": "kill cancel error",
        "store.transaction.worked": "kill full",
    },
)
def test_a_policy_of_a_network_is_changed_or_not(victim: Victim, point: str, way: str, occurrence: int) -> None:
    victim.want(201, "POST", "/networks/create", {"Name": "mine"})
    victim.strike(point, way, "POST", "/teul/networks/mine/egress", _NOTHING, occurrence=occurrence)
    assert_whole(victim)
    victim.want(200, "POST", "/teul/networks/mine/egress", {"Egress": ["lan"]})
    assert_whole(victim)
    victim.want(204, "DELETE", "/networks/mine")
    assert_whole(victim)


@cases(
    {
        "containers.connect.linked": "kill cancel error",
        "containers.disconnect.recorded": "kill error",
        "networks.egress.changed": "kill error",
    }
)
def test_a_policed_container_is_on_another_network_or_not(victim: Victim, point: str, way: str, occurrence: int) -> None:
    victim.want(201, "POST", "/networks/create", {"Name": "mine"})
    victim.run("hit", HostConfig=_NOTHING)
    if "disconnect" in point:
        victim.want(200, "POST", "/networks/mine/connect", {"Container": "hit"})
    action = "disconnect" if "disconnect" in point else "connect"
    victim.strike(point, way, "POST", f"/networks/mine/{action}", {"Container": "hit"}, occurrence=occurrence)
    assert_whole(victim)
    assert_ends(victim, "hit")
    victim.want(204, "DELETE", "/containers/hit")
    victim.want(204, "DELETE", "/networks/mine")
    assert_usable(victim, "hit")
