"""`docker network ls --filter`."""

from __future__ import annotations

import pytest

from teul.errors import InvalidParameter
from teul.model.filter import Filters
from teul.model.network import Network
from teul.services.networks.filters import check_prune_filters, list_filter

NETWORKS = [
    Network(id="a" * 64, name="bridge", created_at_ns=0, driver="bridge"),
    Network(id="b" * 64, name="none", created_at_ns=0, driver="null"),
    Network(id="c" * 64, name="web", created_at_ns=0, driver="bridge", labels={"tier": "front"}),
    Network(id="d" * 64, name="webdata", created_at_ns=0, driver="bridge", labels={"tier": "back"}),
]


@pytest.mark.parametrize(
    ("filters", "expected"),
    [
        ({}, "bridge none web webdata"),
        ({"driver": ["null"]}, "none"),
        ({"driver": ["nul"]}, ""),
        ({"name": ["web"]}, "web webdata"),
        ({"name": ["^web$", "one"]}, "none web"),
        ({"id": ["c" * 12]}, "web"),
        ({"label": ["tier"]}, "web webdata"),
        ({"label": ["tier=back"]}, "webdata"),
        ({"scope": ["local"]}, "bridge none web webdata"),
        ({"scope": ["swarm"]}, ""),
        ({"type": ["builtin"]}, "bridge none"),
        ({"type": ["custom"]}, "web webdata"),
        ({"dangling": ["true"]}, "webdata"),
        ({"dangling": ["0"]}, "bridge none web"),
        ({"dangling": ["1"], "name": ["web$"]}, ""),
    ],
)
def test_filters_let_through(filters: dict[str, list[str]], expected: str) -> None:
    is_wanted = list_filter(Filters(filters), lambda network: network.name == "web")
    assert [network.name for network in NETWORKS if is_wanted(network)] == expected.split()


@pytest.mark.parametrize(
    ("filters", "message"),
    [
        ({"nonsense": ["1"]}, "invalid filter 'nonsense'"),
        ({"type": ["mine"]}, "invalid filter: 'type'='mine'"),
        ({"dangling": ["maybe"]}, """invalid value for filter 'dangling', must be "true" (or "1"), or "false" (or "0")"""),
        ({"dangling": ["0", "1"]}, 'got more than one value for filter key "dangling"'),
    ],
)
def test_what_is_no_filter_is_refused(filters: dict[str, list[str]], message: str) -> None:
    with pytest.raises(InvalidParameter) as caught:
        list_filter(Filters(filters), lambda _: False)
    assert caught.value.message == message


def test_prune_knows_filters_of_its_own() -> None:
    check_prune_filters(Filters({"until": ["10m"], "label": ["a"], "label!": ["b"]}))
    for wrong in ({"driver": ["bridge"]}, {"until": ["1m", "2m"]}):
        with pytest.raises(InvalidParameter):
            check_prune_filters(Filters(wrong))
