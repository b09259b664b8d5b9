"""What Docker 20.10, which is compared with, does otherwise than the Docker of today, which Teul follows; each with its reason."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from typing import Any

_RULES = (
    (r"\b[0-9a-f]{64}\b", "<id>"),
    (r"\b(?=[0-9a-f]*[0-9])[0-9a-f]{12}\b", "<short-id>"),
    (r"\b\d{4}-\d{2}-\d{2}[T ]\d{2}:\d{2}:\d{2}(?:\.\d+)?(?:Z| ?[+-]\d{2}:?\d{2})?(?: UTC)?", "<time>"),
    (r"\b(?:[0-9a-f]{2}:){5}[0-9a-f]{2}\b", "<mac>"),
    (r"\b(?:172\.(?:1[6-9]|2\d|3[01])|192\.168)\.\d{1,3}\.\d{1,3}\b", "<ip>"),
    (r"@if\d+", "@if<n>"),
    (r"(?m)^\d+: (?=\w+(@|\s))", "<n>: "),
    (r"(?<=\S) {2,}", "  "),
)


def normalise(text: str) -> str:
    """`text` without what differs from run to run."""
    for pattern, replacement in _RULES:
        text = re.sub(pattern, replacement, text)
    return text


# Members of documents that are each engine's own, or of which 20.10 knows nothing.
_OWN = frozenset({"SandboxID", "SandboxKey", "DNSNames", "EnableIPv4", "EndpointID", "NetworkID", "Id", "Created", "Bridge"})


def with_known_members(document: Any) -> Any:
    """`document` with those members only that can be compared."""
    match document:
        case dict():
            return {key: with_known_members(value) for key, value in document.items() if key not in _OWN}
        case list():
            return [with_known_members(item) for item in document]
    return document


@dataclass(frozen=True, slots=True)
class Difference:
    """In steps whose title matches, what `old` matches of dockerd's outcome is `new` for newer Dockers."""

    title: str
    old: str
    new: str
    reason: str


_ENDPOINT = "since 25, what is wrong with an endpoint is told all at once (moby daemon/container_operations.go)"

DIFFERENCES: tuple[Difference, ...] = (
    Difference("", r"Invalid filter 'nosuch'", "invalid filter 'nosuch'", "newer Dockers word it so"),
    Difference(
        "cat /etc/hosts", r"(fe|ff)00::0\t", r"\g<1>00::\t", "since 25 addresses stand in their shortest form (moby libnetwork/etchosts)"
    ),
    Difference(
        "create --subnet", r"(?<=daemon: )Pool overlaps", "invalid pool request: Pool overlaps", "since 27 (moby defaultipam/allocator.go)"
    ),
    Difference(
        "network rm net",
        r"network net id <id> has active endpoints",
        'network net has active endpoints (name:"box" id:"<short-id>")',
        "since 28 they are named (moby libnetwork/error.go)",
    ),
    Difference(
        "",
        r"container cannot be disconnected from host network or connected to host network",
        "cannot connect container to host network - container must be created in host network mode",
        "since 26 (moby daemon/container_operations.go)",
    ),
    Difference(
        "disconnect host hosted",
        r"cannot connect container to host network - container must be created in host network mode",
        "cannot disconnect container from host network - container was created in host network mode",
        "since 26 (moby daemon/container_operations.go)",
    ),
    Difference(
        "",
        r"Invalid address (\S+): It does not belong to any of this network's subnets",
        r"invalid endpoint settings:\nno configured subnet contains IP address \1",
        _ENDPOINT,
    ),
    Difference(
        "--ip6 fd00:181::7",
        r"user specified IP address is supported only when connecting to networks with user configured subnets",
        r"invalid endpoint settings:\nno configured subnet contains IP address fd00:181::7",
        _ENDPOINT,
    ),
    Difference(
        "connect", r"Invalid (IPv4|IPv6) address: nonsense\)", r"invalid endpoint settings:\ninvalid \1 address: nonsense", _ENDPOINT
    ),
    Difference(
        "connect",
        r"Invalid link-local IP address: \[nonsense\]",
        r"invalid endpoint settings:\ninvalid link-local IP address: nonsense",
        _ENDPOINT,
    ),
    Difference(
        "network connect",
        "daemon: network-scoped alias is supported only for containers in user defined networks",
        r"daemon: invalid endpoint settings:\nnetwork-scoped aliases are only supported for user-defined networks",
        _ENDPOINT,
    ),
    Difference(
        "network connect",
        "daemon: user specified IP address is supported on user defined networks only",
        r"daemon: invalid endpoint settings:\nuser-specified IP address is supported on user-defined networks only",
        _ENDPOINT,
    ),
    Difference(
        "^run .*--network container:still",
        "cannot join network of a non running container: <id>",
        "cannot join network namespace of a non running container: container still is created",
        "since 29 it is told by its name, and how it is (moby daemon/container_operations.go)",
    ),
    Difference(
        "create --name late --network net",
        r"daemon: (invalid IPv4 address)",
        r"daemon: invalid config for network net: invalid endpoint settings:\n\1",
        _ENDPOINT,
    ),
    Difference(
        "ip -o link show", r"(?<=noqueue) (?=\\)", " qlen 1000", "the length of a queue that there is not; the kernel's own default"
    ),
)

_RANGE = "since 28 both versions of IP are seen to by one function (moby daemon/daemon_unix.go, getDefaultBridgeIPAMConf)"
_STARTED = "since 28 a network that cannot be set up is told of so (moby daemon/start_linux.go)"

DIFFERENCES += (
    Difference(
        "fd00:30::3", "1 packets received, 0%", "0 packets received, 100%", "since 27 --icc=false is about IPv6 as well (ip6tables)"
    ),
    Difference("EnableIPv6", r'{"Subnet":"(fd00:30::)/112"}', r'{"Subnet":"\1/112","IPRange":"\1/112","Gateway":"\g<1>1"}', _RANGE),
    Difference("^run .*-p ", r"daemon: driver failed", "daemon: failed to set up container networking: driver failed", _STARTED),
    Difference(
        "^run .*-p ",
        r"Error starting userland proxy: listen tcp4 0.0.0.0:(\d+): bind:",
        r"failed to bind host port 0.0.0.0:\1/tcp:",
        "since 28 the port is bound by the engine (moby libnetwork/portallocator)",
    ),
    Difference(
        "--ip 10.182.0.2 small", r"No available addresses on this pool", "Address already in use", "since 25 (moby libnetwork/bitmap)"
    ),
    *(
        Difference(
            f"network rm {network}",
            r"network (\S+) id <id> has active endpoints",
            rf'network \1 has active endpoints (name:"{container}" id:"<short-id>")',
            "since 28 they are named (moby libnetwork/error.go)",
        )
        for network, container in (("small", "full"), ("<short-id>", "box"))
    ),
    Difference(
        "network create three",
        r"could not find an available, non-overlapping IPv4 address pool among the defaults to assign to the network",
        "all predefined address pools have been fully subnetted",
        "since 25 (moby libnetwork/ipamapi)",
    ),
    Difference(
        "^start box$", r"network <id> not found", "network net not found", "Teul names a network that is gone as the container does"
    ),
    Difference(
        "inspect -f '{{.State.Status", r"137 network <id>", "128 network net", "the same, and a start that fails is 128 in any case"
    ),
)

_PREDEFINED = (
    "Error response from daemon: invalid config for network bridge: invalid endpoint settings:\n"
    "user-specified IP address is supported on user-defined networks only\n"
)
_VALIDATED = "since 25 a network's addresses are judged all at once, before anything is made (moby daemon/network.go, validateIpamConfig)"
_SUBNET = "Error response from daemon: invalid network config:\ninvalid subnet {0}: invalid CIDR block notation\n"


def _refused(text: str) -> tuple[int, str]:
    return 400, json.dumps({"message": f"invalid network config:\n{text}"}, separators=(",", ":")) + "\n"


def _of_no_type(struct: str) -> tuple[int, str]:
    return 400, json.dumps(
        {"message": f"invalid JSON: json: cannot unmarshal string into Go value of type {struct}"}, separators=(",", ":")
    ) + "\n"


# (title, what newer Dockers come to, reason): for what is not a matter of words.
INSTEAD: tuple[tuple[str, Any, str], ...] = (
    *(
        (f"network create --subnet {subnet} net", (1, "", _SUBNET.format(subnet)), _VALIDATED)
        for subnet in ("nonsense", "10.181.0.0", "10.181.0.0/33")
    ),
    (
        "network create --subnet 10.181.0.7/16 net",
        (1, "", "Error response from daemon: invalid network config:\ninvalid subnet 10.181.0.7/16: it should be 10.181.0.0/16\n"),
        _VALIDATED,
    ),
    ("network create ''", (1, "", "Error response from daemon: invalid name: name is empty\n"), "since 27 (moby libnetwork/controller.go)"),
    (
        "network create ' '",
        (1, "", "Error response from daemon: invalid name: name is empty\n"),
        "since 27 (moby libnetwork/controller.go)",
    ),
    ("network create --scope global net", (0, "<id>\n", ""), "only swarm is a swarm's scope (moby daemon/server/router/network)"),
    ("network create --scope nosuch net", (1, "", "Error response from daemon: invalid scope: nosuch\n"), "the same"),
    ("network create --subnet 0.0.0.0/0 net", (0, "<id>\n", ""), "since 27 it asks for any subnet (moby defaultipam/allocator.go)"),
    (
        "{'Subnet': '10.181.0.0/16', 'Gateway': '10.182.0.1'}",
        _refused("invalid gateway 10.182.0.1: parent subnet 10.181.0.0/16 doesn't contain this address"),
        _VALIDATED,
    ),
    ("{'Subnet': '10.181.0.0/16', 'Gateway': 'nonsense'}", _refused("invalid gateway nonsense: invalid address"), _VALIDATED),
    (
        "{'Subnet': '10.181.0.0/16', 'Gateway': '10.181.0.0'}",
        (400, '{"message":"failed to allocate gateway (10.181.0.0): Address already in use"}\n'),
        "the fault is the client's (moby libnetwork/network.go)",
    ),
    (
        "{'Subnet': '10.181.0.0/16', 'IPRange': '10.182.0.0/24'}",
        _refused("invalid ip-range 10.182.0.0/24: parent subnet 10.181.0.0/16 doesn't contain ip-range"),
        _VALIDATED,
    ),
    ("'IPRange': 'nonsense'", _refused("invalid ip-range nonsense: invalid CIDR block notation"), _VALIDATED),
    (
        "'AuxiliaryAddresses': {'a': '10.182.0.1'}",
        _refused("invalid auxiliary address a: parent subnet 10.181.0.0/16 doesn't contain this address"),
        _VALIDATED,
    ),
    ("[{'Gateway': '10.181.0.1'}]", _refused("invalid gateway 10.181.0.1: no parent subnet given"), _VALIDATED),
    ("[{'IPRange': '10.181.0.0/24'}]", _refused("invalid ip-range 10.181.0.0/24: no parent subnet given"), _VALIDATED),
    ("'CheckDuplicate': 'yes'", (201, '{"Id":"<id>","Warning":""}\n'), "gone from the API since 1.44"),
    ("/networks/create nonsense", _of_no_type("network.CreateRequest"), "Go's structs have other names since 29"),
    ("/networks/net/connect nonsense", _of_no_type("network.ConnectRequest"), "Go's structs have other names since 29"),
    ("/networks/create {}", (400, '{"message":"invalid name: name is empty"}\n'), "since 27 (moby libnetwork/controller.go)"),
    ("?filters=nonsense", (400, '{"message":"invalid filter"}\n'), "since 22 (moby daemon/internal/filters)"),
    (
        "'IPAMConfig': {'IPv4Address': 'nonsense'}",
        (400, '{"message":"invalid endpoint settings:\\ninvalid IPv4 address: nonsense"}\n'),
        _ENDPOINT,
    ),
    (
        "'LinkLocalIPs': ['nonsense']",
        (400, '{"message":"invalid endpoint settings:\\ninvalid link-local IP address: nonsense"}\n'),
        _ENDPOINT,
    ),
    ("'MacAddress': 'nonsense'", (400, '{"message":"invalid MAC address nonsense"}\n'), "20.10 has no MAC addresses of endpoints"),
    (
        "create --name early --network bridge --ip 10.181.0.7 busybox",
        (
            1,
            "",
            _PREDEFINED,
        ),
        "since 25 this is found out when the container is made (moby daemon/create.go)",
    ),
)
# Scenes in which 20.10 has done what newer Dockers refuse: the steps that clean up after them.
_CLEANING = frozenset({"network prune -f"})


def expected(scene: str, title: str, outcome: Any) -> Any:
    """What is expected of Teul where dockerd's outcome was `outcome`. None: nothing."""
    if scene == "bad creations" and title in _CLEANING:
        return None
    if title == "network disconnect net box" and scene == "refusals":
        return None  # whether it is there depends on the request before, of which 20.10 thinks otherwise
    instead = next((entry for entry in INSTEAD if entry[0] == title or (title[:1] in "PG" and entry[0] in title)), None)
    if instead is not None:
        assert outcome != instead[1], f"dockerd does that as well now: {instead}"
        return instead[1]
    for difference in DIFFERENCES:
        if re.search(difference.title, title):
            outcome = _rewritten(outcome, difference)
    return _newer_document(scene, title, outcome)


def _rewritten(value: Any, difference: Difference) -> Any:
    match value:
        case str():
            return re.sub(difference.old, difference.new, value)
        case tuple():
            return tuple(_rewritten(item, difference) for item in value)
    return value


def _newer_document(scene: str, title: str, outcome: Any) -> Any:
    """What newer Dockers show of networks and endpoints, and where Teul's networks behave otherwise in time."""
    if scene == "lists" and "dangling" in title and "nosuch" not in title and title.count("dangling") == 1:
        return _dangling(outcome)  # 20.10 looks for containers where its lists have none
    if scene == "a life" and title == "exec box cat /etc/hosts" and "inside" not in outcome[1]:
        # 20.10 takes the names away for all networks when one is left.
        return outcome[0], outcome[1] + "10.182.0.8\tinside\n", outcome[2]
    if scene == "a life" and title.startswith(("container inspect", "exec box cat")):
        # An address that a container had rests for it (docs/networking.md).
        outcome = json.loads(json.dumps(outcome).replace("fd00:181::2", "fd00:181::7"))
        outcome = tuple(outcome)
    if scene == "internal" and title == "exec box ip route":
        return outcome[0], outcome[1].replace("default via 10.181.0.1 dev eth0 \n", ""), outcome[2]  # no way out, so no route there
    if isinstance(outcome[1], dict):
        return outcome[0], _newer(outcome[1], is_internal=scene == "internal"), outcome[2]
    return outcome


def _dangling(outcome: Any) -> Any:
    used = "net1 bridge local\n"
    lines = outcome[1].replace(used, "") if "net3" in outcome[1] else outcome[1].replace("none", f"{used}none")
    return outcome[0], lines, outcome[2]


def _newer(document: Any, *, is_internal: bool) -> Any:
    match document:
        case {"Aliases": aliases, "Gateway": gateway}:
            # Since 25 the short id and the host name are among DNSNames instead.
            kept = [alias for alias in aliases or [] if alias not in ("<short-id>", "inside", "box")]
            return {**document, "Aliases": kept or None, "Gateway": "" if is_internal and gateway.startswith("10.181") else gateway}
        case {"Subnet": subnet} if "Gateway" not in document:
            # Since 27 the gateway is chosen, and shown, when the network is made: the first address, of the range if there is one.
            lowest = document.get("IPRange", subnet).partition("/")[0]
            gateway = lowest if "IPRange" in document else lowest.removesuffix("0") + "1"
            return {**document, "Gateway": gateway}
        case {"ConfigOnly": True}:
            return document
        case dict():
            return {key: _newer(value, is_internal=is_internal) for key, value in document.items()}
        case list():
            return [_newer(item, is_internal=is_internal) for item in document]
    return document
