"""Orders that make one table into another: what is different and no more, in messages of bounded size."""

from __future__ import annotations

import json

from hypothesis import given, settings
from hypothesis import strategies as st

from teul.network.agent.difference import names_orders
from teul.network.agent.messages import NamesOrder, NetworkTable
from teul.network.agent.program.names import Network

LARGEST_BYTES = 100_000


def table(names: dict[str, list[str]], reverse: dict[str, str] | None = None, *, name: str = "front") -> NetworkTable:
    return {"id": "n1", "name": name, "names": names, "reverse": reverse or {}}


def apply(before: Network | None, orders: list[NamesOrder]) -> Network:
    """What the agent makes of them (`program/orders`)."""
    for order in orders:
        before = Network(order["id"], order["name"]) if order["begin"] else before
        assert before is not None
        before.change(order["names"], order["reverse"])
    assert before is not None
    return before


def test_a_network_that_is_not_known_is_begun() -> None:
    [order] = names_orders(None, table({"web": ["10.0.0.2"]}, {"10.0.0.2": "web.front"}))
    assert order == {
        "order": "names",
        "id": "n1",
        "name": "front",
        "names": {"web": ["10.0.0.2"]},
        "reverse": {"10.0.0.2": "web.front"},
        "begin": True,
        "end": True,
    }


def test_an_empty_network_is_begun_as_well() -> None:
    assert [(order["begin"], order["end"]) for order in names_orders(None, table({}))] == [(True, True)]


def test_only_what_is_different_is_sent() -> None:
    before = table({"web": ["10.0.0.2"], "db": ["10.0.0.3"], "gone": ["10.0.0.4"]}, {"10.0.0.2": "web.front", "10.0.0.4": "gone.front"})
    after = table({"web": ["10.0.0.2"], "db": ["10.0.0.9"]}, {"10.0.0.2": "web.front"})
    [order] = names_orders(before, after)
    assert order["names"] == {"gone": [], "db": ["10.0.0.9"]}
    assert order["reverse"] == {"10.0.0.4": ""}
    assert (order["begin"], order["end"]) == (False, True)
    assert names_orders(after, after) == []


def test_a_network_of_another_name_is_another_network() -> None:
    [order] = names_orders(table({"web": ["10.0.0.2"]}), table({"web": ["10.0.0.2"]}, name="renamed"))
    assert (order["name"], order["names"], order["begin"]) == ("renamed", {"web": ["10.0.0.2"]}, True)


def test_a_large_table_comes_in_several_messages_of_which_the_last_one_counts() -> None:
    names = {f"container-{number}-{'x' * 30}": [f"10.1.{number >> 8}.{number & 255}", f"fd00::{number + 1:x}"] for number in range(5000)}
    large = table(names, {addresses[0]: f"{name}.front" for name, addresses in names.items()})
    orders = names_orders(None, large)
    assert [(order["begin"], order["end"]) for order in orders] == [(True, False), *[(False, False)] * (len(orders) - 2), (False, True)]
    assert all(len(json.dumps(order)) < LARGEST_BYTES for order in orders)
    made = apply(None, orders)
    assert {name: list(addresses) for name, addresses in made.names.items()} == names
    assert made.reverse == large["reverse"]


NAMES = st.dictionaries(st.sampled_from("abcdef"), st.lists(st.sampled_from(["10.0.0.1", "10.0.0.2", "fd00::1"]), min_size=1, unique=True))
REVERSE = st.dictionaries(st.sampled_from(["10.0.0.1", "10.0.0.2", "fd00::1"]), st.sampled_from(["a.front", "b.front"]))
TABLES = st.builds(table, NAMES, REVERSE)


@settings(max_examples=200, deadline=None, derandomize=True)
@given(before=TABLES, after=TABLES)
def test_the_difference_leads_from_any_table_to_any_other(before: NetworkTable, after: NetworkTable) -> None:
    made = apply(apply(None, names_orders(None, before)), names_orders(before, after))
    assert {name: list(addresses) for name, addresses in made.names.items()} == after["names"]
    assert made.reverse == after["reverse"]
