"""What is asked of both engines about networks: docker commands, and requests in JSON where the command line would not let them through."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class Request:
    """A request of the API, whose status and answer are compared."""

    method: str
    path: str
    body: Any = None

    @property
    def title(self) -> str:
        return f"{self.method} {self.path} {self.body if self.body is not None else ''}"


Step = str | Request
"""A docker command, as a shell would read it, or a request."""

_POST = "/networks/create"


def _create(**members: Any) -> Request:
    return Request("POST", _POST, {"Name": "net", **members})


def _config(*configs: dict[str, Any], **members: Any) -> Request:
    return _create(IPAM={"Config": list(configs)}, **members)


def _connect(network: str, container: str, **settings: Any) -> Request:
    return Request("POST", f"/networks/{network}/connect", {"Container": container, "EndpointConfig": settings})


def _disconnect(network: str, container: str, **members: Any) -> Request:
    return Request("POST", f"/networks/{network}/disconnect", {"Container": container, **members})


BOX = "run -d --name {0} -h {0} busybox sleep 300"
LOOK = "network inspect -f '{{json .}}' net"
FOUND = "container inspect -f '{{json .NetworkSettings.Networks}}' "
SETTINGS = "container inspect -f '{{json .NetworkSettings}}' "
SUBNET = "10.181.0.0/16"
SUBNET6 = "fd00:181::/64"
BOTH = f"network create --ipv6 --subnet {SUBNET} --subnet {SUBNET6} net"

CREATIONS = [
    f"--subnet {SUBNET}",
    f"--subnet {SUBNET} --gateway 10.181.0.9 --ip-range 10.181.4.0/24 --aux-address a=10.181.4.1 --aux-address b=10.181.4.2",
    f"--ipv6 --subnet {SUBNET} --subnet {SUBNET6} --gateway fd00:181::9",
    f"--internal --subnet {SUBNET}",
    f"--attachable --label a=b --label c --subnet {SUBNET}",
    f"-o com.docker.network.bridge.name=judged0 -o com.docker.network.driver.mtu=1400 --subnet {SUBNET}",
    f"-o com.docker.network.bridge.enable_icc=false -o com.docker.network.bridge.enable_ip_masquerade=false --subnet {SUBNET}",
    f"-o com.docker.network.container_iface_prefix=net -o own=thing --subnet {SUBNET}",
    f"--ipam-opt k=v --scope local --subnet {SUBNET}",
    "--subnet 10.181.0.0/30",
    f"--config-only --subnet {SUBNET}",
    f"--subnet {SUBNET} --ip-range 10.181.4.0/24",
]

BAD_CREATIONS: list[Step] = [
    "network create bridge",
    "network create host",
    "network create none",
    "network create default",
    "network create ''",
    "network create ' '",
    "network create -d nosuch net",
    "network create -d host net",
    "network create -d null net",
    "network create --ipam-driver nosuch net",
    "network create --scope swarm net",
    "network create --scope global net",
    "network create --scope nosuch net",
    "network create --ingress net",
    "network create --config-from nosuch net",
    "network create --config-only --internal net",
    "network create --subnet nonsense net",
    "network create --subnet 10.181.0.0 net",
    "network create --subnet 10.181.0.0/33 net",
    "network create --subnet 10.181.0.7/16 net",
    "network create --subnet 10.181.0.0/16 --subnet 10.182.0.0/16 net",
    "network create -o com.docker.network.driver.mtu=x net",
    "network create -o com.docker.network.bridge.enable_icc=x net",
    "network create -o com.docker.network.bridge.host_binding_ipv4=x net",
    "network create --subnet 0.0.0.0/0 net",
    _config({"Subnet": SUBNET, "Gateway": "10.182.0.1"}),
    _config({"Subnet": SUBNET, "Gateway": "nonsense"}),
    _config({"Subnet": SUBNET, "Gateway": "10.181.0.0"}),
    _config({"Subnet": SUBNET, "IPRange": "10.182.0.0/24"}),
    _config({"Subnet": SUBNET, "IPRange": "nonsense"}),
    _config({"Subnet": SUBNET, "AuxiliaryAddresses": {"a": "10.182.0.1"}}),
    _config({"Subnet": "10.184.0.0/16", "AuxiliaryAddresses": {"a": "10.184.0.1"}}),
    _config({"Gateway": "10.181.0.1"}),
    _config({"IPRange": "10.181.0.0/24"}),
    _create(CheckDuplicate="yes"),
    Request("POST", _POST, "nonsense"),
    Request("POST", _POST, {}),
]

TWICE: list[Step] = [
    f"network create --subnet {SUBNET} net",
    "network create net",
    "network create --subnet 10.181.4.0/24 other",
    "network create --subnet 10.180.0.0/15 other",
    f"network create --subnet {SUBNET} other",
    "network create -o com.docker.network.bridge.name=judged1 --subnet 10.182.0.0/16 one",
    "network create -o com.docker.network.bridge.name=judged1 --subnet 10.183.0.0/16 two",
    "network rm one",
    "network rm net",
]

LISTS: list[Step] = [
    "network create --subnet 10.181.0.0/24 --label a=b --label c net1",
    "network create --subnet 10.181.1.0/24 --label a=x net2",
    "network create --config-only conf",
    "network create --config-from conf net3",
    "network create --config-only --subnet 10.181.3.0/24 --label l=m conf2",
    "network create --config-from conf2 net4",
    "network inspect -f '{{json .}}' net4",
    "network rm conf2",
    "run -d --network net1 --name box busybox sleep 300",
    *(
        f"network ls --format '{{{{.Name}}}} {{{{.Driver}}}} {{{{.Scope}}}}' {filters}"
        for filters in (
            "",
            "-f name=net",
            "-f name=^net1$",
            "-f name=net1 -f name=net2",
            "-f driver=bridge",
            "-f driver=null -f driver=host",
            "-f driver=nosuch",
            "-f type=custom",
            "-f type=builtin",
            "-f type=nosuch",
            "-f scope=local",
            "-f scope=swarm",
            "-f label=a",
            "-f label=a=b",
            "-f label=a=b -f label=c",
            "-f label=nosuch",
            "-f dangling=true",
            "-f dangling=false",
            "-f dangling=1 -f type=custom",
            "-f dangling=nosuch",
            "-f dangling=true -f dangling=false",
            "-f id=nosuch",
            "-f nosuch=x",
        )
    ),
    "network ls",
    "network ls -q --no-trunc",
    "network ls --format '{{.ID}} {{.Internal}} {{.Labels}}' -f name=net2",
    "network prune -f --filter label=nosuch",
    "network prune -f --filter label!=a --filter label!=l",
    "network prune -f --filter until=1h",
    "network prune -f --filter until=nonsense",
    "network prune -f --filter nosuch=x",
    "network prune -f",
    "network ls --format {{.Name}}",
    "rm -f box",
    "network prune -f",
    "network prune -f",
]

LIFE: list[Step] = [
    BOTH,
    "create --name box -h inside --network net --network-alias alias1 --ip 10.181.0.7 --ip6 fd00:181::7 busybox sleep 300",
    SETTINGS + "box",
    LOOK,
    "start box",
    SETTINGS + "box",
    LOOK,
    "exec box cat /etc/hosts",
    "exec box ip -o addr show dev eth0",
    "exec box ip route",
    "exec box ip -6 route show default",
    "ps --format '{{.Names}} {{.Networks}}'",
    "ps --format {{.Names}} --filter network=net",
    "ps --format {{.Names}} --filter network=bridge",
    "ps --format {{.Names}} --filter network=nosuch",
    "network rm net",
    "network rm net nosuch",
    "network prune -f",
    "network create --subnet 10.182.0.0/16 other",
    "network connect --alias second --ip 10.182.0.8 other box",
    SETTINGS + "box",
    "exec box cat /etc/hosts",
    "exec box ip -o addr show dev eth1",
    "exec box ip route",
    "network connect other box",
    "network disconnect net box",
    SETTINGS + "box",
    "exec box cat /etc/hosts",
    "exec box ip route",
    "network disconnect net box",
    "network disconnect -f net box",
    "stop -t 0 box",
    SETTINGS + "box",
    LOOK,
    "network inspect -f '{{json .Containers}}' other",
    "network connect --ip 10.181.0.99 --alias later net box",
    "network connect net box",
    FOUND + "box",
    "network disconnect other box",
    "network disconnect other box",
    FOUND + "box",
    "network rm other",
    "start box",
    FOUND + "box",
    "exec box cat /etc/hosts",
    "stop -t 0 box",
    "network rm net",
    "start box",
    "inspect -f '{{.State.Status}} {{.State.ExitCode}} {{.State.Error}}' box",
    "network disconnect -f net box",
    FOUND + "box",
    "rm box",
]

INTERNAL: list[Step] = [
    f"network create --internal --subnet {SUBNET} net",
    "run -d --name box --network net busybox sleep 300",
    SETTINGS + "box",
    "exec box ip route",
    "network connect bridge box",
    "exec box ip -o addr show dev eth1",
    "network disconnect net box",
    "rm -f box",
    "network rm net",
]

ADDRESSES: list[Step] = [
    f"network create --subnet {SUBNET} --ip-range 10.181.4.0/29 --aux-address a=10.181.4.1 --gateway 10.181.4.2 net",
    "run -d --name one --network net busybox sleep 300",
    "inspect -f '{{json .NetworkSettings.Networks.net.IPAddress}}' one",
    "run -d --name two --network net --ip 10.181.4.1 busybox sleep 300",
    "rm -f two",
    "run -d --name two --network net --ip 10.181.4.2 busybox sleep 300",
    "rm -f two",
    "run -d --name two --network net --ip 10.182.0.1 busybox sleep 300",
    "rm -f two",
    "run -d --name two --network net --ip 10.181.99.1 busybox sleep 300",
    "inspect -f '{{json .NetworkSettings.Networks.net.IPAddress}}' two",
    "run -d --name three --network net --ip 10.181.99.1 busybox sleep 300",
    "rm -f three",
    "run -d --name three --network net --ip6 fd00:181::7 busybox sleep 300",
    "rm -f one two three",
    "network rm net",
    "network create --subnet 10.181.0.0/30 net",
    "run -d --name one --network net busybox sleep 300",
    "run -d --name two --network net busybox sleep 300",
    "inspect -f '{{.State.Status}}' two",
    "network connect net two",
    "start two",
    "rm -f one two",
    "network rm net",
]

REFUSALS: list[Step] = [
    f"network create --subnet {SUBNET} net",
    "network create --config-only conf",
    "run -d --name box busybox sleep 300",
    "run -d --name hosted --network host busybox sleep 300",
    "run -d --name alone --network none busybox sleep 300",
    "run -d --name guest --network container:box busybox sleep 300",
    "create --name still busybox sleep 300",
    "create --name quiet --network none busybox sleep 300",
    "network connect net hosted",
    "network connect net alone",
    "network connect net quiet",
    "network connect net guest",
    "network connect host box",
    "network connect host still",
    "network connect none box",
    "network connect none still",
    "network connect bridge box",
    "network connect bridge still",
    "network connect nosuch box",
    "network connect nosuch still",
    "network connect net nosuch",
    "network connect conf box",
    "network connect conf still",
    "network connect --ip 10.182.0.1 net box",
    "network connect --ip nonsense net box",
    "network connect --ip 10.182.0.1 net still",
    "network connect --ip6 fd00:181::7 net box",
    "network connect --alias x bridge box",
    "network connect --ip 10.181.0.7 bridge still",
    "network connect --link-local-ip nonsense net box",
    "network disconnect bridge hosted",
    "network disconnect host hosted",
    "network disconnect none alone",
    "network disconnect net box",
    "network disconnect net still",
    "network disconnect nosuch box",
    "network disconnect nosuch still",
    "network disconnect -f nosuch box",
    "network disconnect -f nosuch still",
    "network disconnect net nosuch",
    "network rm bridge",
    "network rm host",
    "network rm nosuch",
    "network rm ''",
    "network inspect nosuch",
    "network inspect ''",
    _connect("net", ""),
    _connect("net", "box", IPAMConfig={"IPv4Address": "nonsense"}),
    _connect("net", "box", MacAddress="nonsense"),
    "network disconnect net box",
    _connect("net", "box", IPAMConfig={"LinkLocalIPs": ["nonsense"]}),
    Request("POST", "/networks/net/connect", {}),
    Request("POST", "/networks/net/connect", "nonsense"),
    _disconnect("net", ""),
    _disconnect("nosuch", "nosuch"),
    _disconnect("net", "box"),
    _disconnect("nosuch", "box", Force=True),
    Request("GET", "/networks/net?verbose=nonsense"),
    Request("GET", "/networks/net?scope=swarm"),
    Request("GET", "/networks?filters=nonsense"),
    Request("DELETE", "/networks/nosuch"),
    "create --name late --network net --network-alias y --ip nonsense busybox",
    "create --name late --network nosuch busybox",
    "start late",
    "rm late",
    "create --name early --network bridge --ip 10.181.0.7 busybox",
    "create --name late --network container:nosuch busybox",
    "start late",
    "rm late",
    "create --name late --network conf busybox true",
    "start late",
    "rm late",
    "rm -f box hosted alone guest still quiet",
    "network rm conf net",
]

NAMES: list[Step] = [
    f"network create --subnet {SUBNET} net",
    "network create --subnet 10.182.0.0/16 bridge2",
    "run -d --name box --network net busybox sleep 300",
    "rename box bag",
    FOUND + "bag",
    "network inspect -f '{{range .Containers}}{{.Name}}{{end}}' net",
    "restart -t 0 bag",
    FOUND + "bag",
    "rm -f bag",
    "network rm net bridge2",
]

LOCAL: list[Step] = [
    BOTH,
    "run -d --name box --network net --ip 10.181.0.7 --link-local-ip 169.254.9.9 busybox sleep 300",
    FOUND + "box",
    "exec box ip -o -4 addr show dev eth0",
    "rm -f box",
    "network create -o com.docker.network.container_iface_prefix=lan -o com.docker.network.driver.mtu=1300 --subnet 10.182.0.0/16 other",
    "run -d --name box --network other busybox sleep 300",
    "exec box ip -o link show dev lan0",
    "rm -f box",
    "network rm net other",
]

LINKS: list[Step] = [
    f"network create --subnet {SUBNET} net",
    "run -d --name store -h store --network net busybox sleep 300",
    "run -d --name box -h box --network net --link store:db --link store busybox sleep 300",
    FOUND + "box",
    "inspect -f '{{json .HostConfig.Links}}' box",
    "run -d --name free -h free busybox sleep 300",
    "network connect --link store:db net free",
    "inspect -f '{{json .NetworkSettings.Networks.net.Links}}' free",
    "network disconnect net free",
    _connect("net", "free", Links=["a:b:c"]),
    _connect("net", "free", Links=[""]),
    "rm -f box free store",
    "network rm net",
]

_LINKED = "busybox sleep 300"
_LINES = "exec {0} sh -c 'grep inner /etc/hosts | sort -k 2'"
_PING = "exec web sh -c 'ping -c 1 -W 5 -q {0} | grep received'"
LEGACY_LINKS: list[Step] = [
    f"run -d --name store -h inner --expose 5432 --expose 81 --expose 80 --expose 82 --expose 5433/udp -e A=b=c -e PATH=/bin {_LINKED}",
    f"run -d --name web -h web --link store:data-base --link store --link store:inner {_LINKED}",
    "inspect -f '{{json .HostConfig.Links}}' store",
    "inspect -f '{{len .HostConfig.Links}}' web",
    "ps --no-trunc --format {{.Names}}",
    "ps --format {{.Names}}",
    "inspect -f {{.Name}} /web/data-base",
    "inspect -f {{.Name}} web/store",
    "inspect -f {{.Name}} web/nosuch",
    _LINES.format("web"),
    "exec web sh -c 'env | grep -v ^HOSTNAME | sort'",
    _PING.format("data-base"),
    "run --rm --link store:db -e DB_NAME=mine busybox sh -c 'env | grep ^DB | sort'",
    f"run -d --name other {_LINKED}",
    "stop -t 0 store",
    f"run -d --name taker {_LINKED}",
    "start store",
    _LINES.format("web"),
    _PING.format("store"),
    "rename web site",
    "inspect -f {{.Name}} site/store",
    "inspect -f {{.Name}} web/store",
    "rename store shop",
    "inspect -f '{{len .HostConfig.Links}}' site",
    "rm --link site/inner",
    "rm --link site/inner",
    "rm --link shop",
    "rm --link nosuch",
    "rm --link nosuch/store",
    "inspect -f '{{len .HostConfig.Links}}' site",
    _LINES.format("site"),
    "rm --link site/data-base",
    "stop -t 0 site shop",
    "start site",
    "inspect -f '{{.State.Status}} {{.State.Error}}' site",
    "start shop",
    "network disconnect bridge shop",
    "start site",
    "network connect bridge shop",
    "start site",
    _LINES.format("site"),
    "stop -t 0 site",
    "rm -f shop",
    "inspect -f '{{len .HostConfig.Links}}' site",
    "start site",
    "rm -f site other taker",
    "ps -aq",
]

BAD_LINKS: list[Step] = [
    "run -d --name store busybox sleep 300",
    "run -d --name hosted --network host busybox sleep 300",
    "run -d --name guest --network container:store busybox sleep 300",
    f"network create --subnet {SUBNET} net",
    "run -d --name away --network net busybox sleep 300",
    *(
        each
        for link in ("nosuch", "nosuch:db", ":db", "hosted:h", "box", "store:a:b", "")
        for each in (
            Request("POST", "/containers/create?name=box", {"Image": "busybox", "Cmd": ["true"], "HostConfig": {"Links": [link]}}),
            "ps -a --format {{.Names}}",
        )
    ),
    "create --name box --network host --link store busybox true",
    "create --name box --network container:store --link store busybox true",
    "create --name box --link guest:g --link store: --link store:g busybox true",
    "inspect -f '{{json .HostConfig.Links}}' box",
    "rm box",
    "create --name box --link away busybox true",
    "start box",
    "rm box",
    "create --name box --network none --link store busybox true",
    "start -a box",
    "inspect -f '{{json .HostConfig.Links}}' box",
    "rm -f box store hosted guest away",
    "network rm net",
]

SCENES: dict[str, list[Step]] = {
    "creations": [step for options in CREATIONS for step in (f"network create {options} net", LOOK, "network rm net")],
    "bad creations": [each for step in BAD_CREATIONS for each in (step, "network prune -f")],
    "twice": TWICE,
    "lists": LISTS,
    "a life": LIFE,
    "internal": INTERNAL,
    "addresses": ADDRESSES,
    "refusals": REFUSALS,
    "names": NAMES,
    "link-local": LOCAL,
    "links": LINKS,
    "legacy links": LEGACY_LINKS,
    "bad links": BAD_LINKS,
}
