"""Which addresses a name stands for, as a container sees it: Docker's order of looking, and nothing beyond the container's own networks."""

from __future__ import annotations

import pytest

from teul.network.agent.messages import View
from teul.network.agent.program.names import Names, Network, checked, is_allowed


def make_names() -> Names:
    names = Names()
    for network_id, name, entries in (
        ("n1", "front", {"web": ["172.18.0.2"], "api": ["172.18.0.3", "fd00::3"], "a.b": ["172.18.0.4"], "db": ["172.18.0.5"]}),
        ("n2", "back", {"web": ["172.19.0.2"], "db": ["172.19.0.5"], "six": ["fd01::6"]}),
        ("n3", "else", {"secret": ["172.20.0.2"], "web": ["172.20.0.3"]}),
        ("n4", "net.with.dots", {"deep": ["172.21.0.2"], "front": ["172.21.0.3"]}),
    ):
        network = names.networks[network_id] = Network(network_id, name)
        network.change(entries, {addresses[0]: f"{owner}.{name}" for owner, addresses in entries.items()})
    return names


def view(*networks: str, links: dict[str, dict[str, list[str]]] | None = None) -> View:
    return checked({"networks": list(networks), "links": links or {}, "servers": [], "forwards": True})


@pytest.mark.parametrize(
    ("name", "version", "addresses"),
    [
        ("web", 4, ["172.18.0.2"]),  # of the first network that knows it
        ("WeB", 4, ["172.18.0.2"]),
        ("web.front", 4, ["172.18.0.2"]),
        ("web.back", 4, ["172.19.0.2"]),
        ("web.BACK", 4, ["172.19.0.2"]),
        ("web.else", 4, None),  # not a network of this container
        ("secret", 4, None),
        ("a.b", 4, ["172.18.0.4"]),
        ("a.b.front", 4, ["172.18.0.4"]),
        ("deep.net.with.dots", 4, ["172.21.0.2"]),
        ("web.front.back", 4, None),
        ("six", 6, ["fd01::6"]),
        ("six", 4, []),  # known, but not by such an address
        ("web", 6, []),
        ("api", 6, ["fd00::3"]),
        ("nobody", 4, None),
        ("", 4, None),
        (".", 4, None),
        ("..", 4, None),
        ("example.org", 4, None),
    ],
)
def test_a_name_is_looked_for_in_the_views_networks(name: str, version: int, addresses: list[str] | None) -> None:
    assert make_names().addresses(view("n1", "n2", "n4"), name, version) == addresses


def test_the_order_of_the_networks_is_the_views() -> None:
    assert make_names().addresses(view("n2", "n1"), "web", 4) == ["172.19.0.2"]


def test_a_network_that_nobody_has_put_yet_is_passed_over() -> None:
    assert make_names().addresses(view("n9", "n1"), "web", 4) == ["172.18.0.2"]


def test_a_link_comes_before_every_name_of_every_network() -> None:
    linked = view("n1", "n2", links={"n2": {"Web": ["172.19.0.9"]}})
    assert make_names().addresses(linked, "web", 4) == ["172.19.0.9"]
    assert make_names().addresses(linked, "web.back", 4) == ["172.19.0.9"]
    assert make_names().addresses(linked, "web.front", 4) == ["172.18.0.2"]


def test_the_alias_of_a_link_hides_the_name_in_its_network_while_what_is_linked_does_not_run() -> None:
    """docker: Sandbox.resolveName; the other networks' names are found."""
    linked = view("n1", "n2", links={"n1": {"web": []}})
    assert make_names().addresses(linked, "web", 4) == ["172.19.0.2"]
    assert make_names().addresses(linked, "web.front", 4) is None


def test_an_alias_that_several_have_stands_for_all_of_them_in_changing_order() -> None:
    names = make_names()
    many = [f"172.18.1.{number}" for number in range(20)]
    names.networks["n1"].change({"many": [*many, many[0]]}, {})
    answers = [names.addresses(view("n1"), "many", 4) for _ in range(20)]
    assert all(answer is not None and sorted(answer) == sorted(many) for answer in answers)
    assert len({tuple(answer or ()) for answer in answers}) > 1


def test_names_and_owners_go_when_they_are_set_to_nothing() -> None:
    names = make_names()
    names.networks["n1"].change({"WEB": []}, {"172.18.0.2": ""})
    assert names.addresses(view("n1"), "web", 4) is None
    assert names.owner(view("n1"), "2.0.18.172.in-addr.arpa") is None


@pytest.mark.parametrize(
    ("name", "owner"),
    [
        ("2.0.18.172.in-addr.arpa", "web.front"),
        ("2.0.18.172.IN-ADDR.ARPA", "web.front"),
        ("6.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.1.0.d.f.ip6.arpa", "six.back"),
        ("6.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.1.0.D.F.ip6.arpa", "six.back"),
        ("2.0.20.172.in-addr.arpa", None),  # of another container's network
        ("9.9.9.9.in-addr.arpa", None),
        ("0.18.172.in-addr.arpa", None),
        ("2.0.18.172.in-addr.arpa.example.org", None),
        ("02.0.18.172.in-addr.arpa", None),
        ("_.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.1.0.d.f.ip6.arpa", None),
        ("in-addr.arpa", None),
        ("ip6.arpa", None),
        (".ip6.arpa", None),
        ("web", None),
    ],
)
def test_an_address_has_an_owner_in_the_views_networks(name: str, owner: str | None) -> None:
    assert make_names().owner(view("n1", "n2"), name) == owner


@pytest.mark.parametrize(
    "wrong",
    [
        {"links": {"n1": {"web": ["no address"]}}},
        {"networks": None},
        {"links": {"n1": None}},
    ],
)
def test_a_view_is_checked(wrong: dict[str, object]) -> None:
    whole = {"networks": [], "links": {}, "servers": [], "forwards": True, **wrong}
    with pytest.raises((ValueError, TypeError, AttributeError)):
        checked(whole)  # type: ignore[arg-type]


def test_addresses_are_checked_and_spelled_as_usual() -> None:
    network = Network("n1", "front")
    with pytest.raises(ValueError, match="does not appear"):
        network.change({"web": ["172.18.0.256"]}, {})
    network.change({"web": ["FD00::0:1"]}, {"FD00::0:1": "web.front"})
    assert network.names == {"web": ("fd00::1",)}
    assert network.reverse == {"fd00::1": "web.front"}


def test_each_policy_has_to_allow_a_name() -> None:
    def allowed(name: str, *rules: list[str]) -> bool:
        return is_allowed(checked({"networks": [], "links": {}, "servers": [], "forwards": True, "allowed": list(rules)}), name)

    assert allowed("anything.example")
    assert not allowed("anything.example", [])
    assert allowed("A.good.example", ["*.GOOD.example"], ["a.good.example", "b.example"])
    assert not allowed("b.example", ["*.good.example"], ["a.good.example", "b.example"])
    assert not allowed("good.example", ["*.good.example"])
    assert not allowed("badgood.example", ["*.good.example"])
