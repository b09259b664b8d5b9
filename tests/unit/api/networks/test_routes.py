"""GET /networks and its neighbours: documents as dockerd writes them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest

from teul.errors import Forbidden, NotFound
from teul.model.filter import Filters
from teul.model.network import AddressRange, Attachment, Ipam, Network
from teul.model.network_config import (
    ConnectRequest,
    CreateNetwork,
    DisconnectRequest,
    EndpointIPAMConfig,
    EndpointSettings,
    IpamConfig,
    IpamRequest,
)
from teul.services.containers.connections import Connections
from teul.services.networks.filters import list_filter
from teul.services.networks.records import attachment_of
from teul.services.networks.service import Networks
from unit.api.fake_services import FakeServices, attached_endpoint, make_container
from unit.api.served_api import Api

BRIDGE = Network(
    id="1" * 64,
    name="bridge",
    created_at_ns=1_700_000_000_120_000_000,
    driver="bridge",
    ipam=Ipam(ranges=[AddressRange(subnet="172.17.0.0/16", gateway="172.17.0.1")]),
    options={"com.docker.network.bridge.name": "teul0"},
)
NONE = Network(id="2" * 64, name="none", created_at_ns=0, driver="null")


class FakeNetworks(Networks):
    """Two networks, one container, and a memory of what was asked."""

    def __init__(self) -> None:
        self.asked: list[tuple[str, Any]] = []
        self.box = make_container(endpoints={"bridge": attached_endpoint()})

    def list(self, filters: Filters | None = None) -> Sequence[Network]:
        is_wanted = list_filter(filters or Filters(), lambda _: False)
        return [network for network in (BRIDGE, NONE) if is_wanted(network)]

    def get(self, reference: str, *, scope: str = "") -> Network:
        self.asked.append((reference, scope))
        for network in (BRIDGE, NONE):
            if reference in {network.name, network.id} and scope in {"", "local"}:
                return network
        raise NotFound(f"network {reference} not found")

    def attachments(self, network: Network) -> Sequence[Attachment]:
        return [attachment_of(self.box, network)] if network.name in self.box.endpoints else []

    async def create(self, request: CreateNetwork) -> Network:
        self.asked.append(("create", request))
        if request.name in {"bridge", "host"}:
            raise Forbidden(f"operation is not permitted on predefined {request.name} network ")
        return NONE

    async def remove(self, reference: str) -> None:
        raise Forbidden(f"{self.get(reference).name} is a pre-defined network and cannot be removed")

    async def prune(self, filters: Filters) -> Sequence[str]:
        self.asked.append(("prune", filters))
        return []


class FakeConnections(Connections):
    """Remembers what was asked."""

    def __init__(self) -> None:
        self.asked: list[tuple[str, str, Any]] = []

    async def connect(self, reference: str, request: ConnectRequest) -> None:
        self.asked.append(("connect", reference, request))

    async def disconnect(self, reference: str, request: DisconnectRequest) -> None:
        self.asked.append(("disconnect", reference, request))


@pytest.fixture
def networks(services: FakeServices) -> FakeNetworks:
    fake = FakeNetworks()
    services.networks = fake
    return fake


DOCUMENT = {
    "Name": "bridge",
    "Id": "1" * 64,
    "Created": "2023-11-14T22:13:20.12Z",
    "Scope": "local",
    "Driver": "bridge",
    "EnableIPv4": True,
    "EnableIPv6": False,
    "IPAM": {"Driver": "default", "Options": None, "Config": [{"Subnet": "172.17.0.0/16", "Gateway": "172.17.0.1"}]},
    "Internal": False,
    "Attachable": False,
    "Ingress": False,
    "ConfigFrom": {"Network": ""},
    "ConfigOnly": False,
    "Containers": {},
    "Options": {"com.docker.network.bridge.name": "teul0"},
    "Labels": {},
}
MEMBER = {
    "Name": "box",
    "EndpointID": "e" * 64,
    "MacAddress": "02:42:ac:11:00:02",
    "IPv4Address": "172.17.0.2/16",
    "IPv6Address": "",
}


async def test_inspect_shows_who_is_on_the_network(api: Api, networks: FakeNetworks) -> None:
    status, document = await api.request("GET", "/v1.51/networks/bridge")
    assert (status, document) == (200, {**DOCUMENT, "Containers": {networks.box.id: MEMBER}})
    assert list(document) == list(DOCUMENT), "the order is dockerd's, too"


async def test_a_network_without_addresses_has_no_configuration(api: Api, networks: FakeNetworks) -> None:
    _, document = await api.request("GET", "/v1.51/networks/none?scope=local&verbose=true")
    assert document["IPAM"] == {"Driver": "default", "Options": None, "Config": None}
    assert (document["Driver"], document["Containers"]) == ("null", {})


async def test_the_list_says_who_only_to_old_clients(api: Api, networks: FakeNetworks) -> None:
    _, listed = await api.request("GET", "/v1.51/networks")
    assert [network["Name"] for network in listed] == ["bridge", "none"]
    assert listed[0] == DOCUMENT
    _, listed = await api.request("GET", "/v1.27/networks")
    assert listed[0]["Containers"] == {networks.box.id: MEMBER}


async def test_the_list_is_filtered(api: Api, networks: FakeNetworks) -> None:
    _, listed = await api.request("GET", '/v1.51/networks?filters={"driver":["null"]}')
    assert [network["Name"] for network in listed] == ["none"]
    status, document = await api.request("GET", '/v1.51/networks?filters={"nonsense":["1"]}')
    assert (status, document) == (400, {"message": "invalid filter 'nonsense'"})


@pytest.mark.parametrize(
    ("method", "path", "status", "message"),
    [
        ("GET", "/networks/nonsense", 404, "network nonsense not found"),
        ("GET", "/networks/bridge?scope=swarm", 404, "network bridge not found"),
        ("GET", "/networks/bridge?verbose=yes", 400, 'invalid value for verbose: yes: strconv.ParseBool: parsing "yes": invalid syntax'),
        ("DELETE", "/networks/bridge", 403, "bridge is a pre-defined network and cannot be removed"),
        ("DELETE", "/networks/nonsense", 404, "network nonsense not found"),
    ],
)
@pytest.mark.usefixtures("networks")
async def test_what_is_refused_and_how(api: Api, method: str, path: str, status: int, message: str) -> None:
    assert await api.request(method, f"/v1.51{path}") == (status, {"message": message})


async def test_create_hands_on_what_was_asked(api: Api, networks: FakeNetworks) -> None:
    body = {"Name": "mine", "EnableIPv4": False, "IPAM": {"Config": [{"Subnet": "10.0.0.0/8", "AuxiliaryAddresses": {"a": "10.0.0.9"}}]}}
    assert await api.request("POST", "/v1.51/networks/create", json=body) == (201, {"Id": NONE.id, "Warning": ""})
    addresses = IpamRequest(config=[IpamConfig(subnet="10.0.0.0/8", auxiliary_addresses={"a": "10.0.0.9"})])
    assert networks.asked == [("create", CreateNetwork(name="mine", enable_ipv4=False, ipam=addresses))]
    await api.request("POST", "/v1.47/networks/create", json=body)
    assert networks.asked[1] == ("create", CreateNetwork(name="mine", ipam=addresses)), "IPv4 could not be disabled then"


async def test_create_refuses_what_every_engine_has(api: Api, networks: FakeNetworks) -> None:
    answer = await api.request("POST", "/v1.51/networks/create", json={"Name": "host", "Driver": "bridge"})
    assert answer == (403, {"message": "operation is not permitted on predefined host network "})


async def test_connect_and_disconnect_hand_on_what_was_asked(api: Api, services: FakeServices) -> None:
    connections = services.connections = FakeConnections()
    settings = {"Aliases": ["db"], "IPAMConfig": {"IPv4Address": "10.0.0.9"}}
    assert await api.request("POST", "/v1.51/networks/mine/connect", json={"Container": "box", "EndpointConfig": settings}) == (200, None)
    assert await api.request("POST", "/v1.51/networks/mine/disconnect", json={"Container": "box", "Force": True}) == (200, None)
    asked = EndpointSettings(aliases=["db"], ipam_config=EndpointIPAMConfig(ipv4_address="10.0.0.9"))
    assert connections.asked == [
        ("connect", "mine", ConnectRequest(container="box", endpoint_config=asked)),
        ("disconnect", "mine", DisconnectRequest(container="box", force=True)),
    ]


async def test_prune_says_null_where_nothing_was_removed(api: Api, networks: FakeNetworks) -> None:
    assert await api.request("POST", "/v1.51/networks/prune") == (200, {"NetworksDeleted": None})
