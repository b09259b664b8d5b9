"""The rules that hold containers to their egress policies: their number is fixed, and who is held to what are elements of sets.

In the engine's table, where a policed container is a pair of bridge and address, and a policed network its bridge:

    set policed4            containers with a policy; `policed_networks`: networks with one
    set allowed4            of a container's address, the networks that it may reach; `network_allowed4`: of a bridge
    set named4              the same of addresses that allowed names have, for as long as the answers said; `network_named4`
    set used4               of these the ones that connections use, so that none is cut when its name's answer expires; `network_used4`
    set refused4            what was refused, counted: source, destination, protocol and port as the program addressed them

    chain egress            asked about what comes from a bridge and leaves the network: is forwarded, or is for the host itself
    chain arriving          asks it of what is sent to the host before that is led to a published port: what is said no to then is answered
                            from the address that the program asked for

What a connection's other side sends passes: policies are about connections that containers begin, and of these about every packet, so that
a change of policy cuts what is not allowed any more. A container and its network are both asked.

In a table of the bridge family, made when the first container is policed, stands which addresses a policed container's link may send from:
one that has CAP_NET_RAW could pass for another otherwise. Link-local addresses and those of nobody reach its neighbours, and of the host
only what finds neighbours.
"""

from __future__ import annotations

_TYPES = {4: "ipv4_addr", 6: "ipv6_addr"}
_FAMILIES = {4: "ip", 6: "ip6"}
_REMEMBERED = "12h"  # what was refused
_USED = "1h"  # the longest silence on a connection to an address of a name whose answer has expired
_SIZE = 65536
_DYNAMIC = f"size {_SIZE}; flags dynamic,timeout;"
_WITH_PORTS = "{ tcp, udp, udplite, sctp, dccp }"
_NEIGHBOURS = "{ nd-router-solicit, nd-neighbor-solicit, nd-neighbor-advert, mld-listener-report, mld-listener-done, mld2-listener-report }"

DECLARATIONS = (
    "set policed_networks { type ifname; }",
    *(
        line
        for version, kind in _TYPES.items()
        for line in (
            f"set policed{version} {{ type ifname . {kind}; }}",
            f"set refused{version} {{ type {kind} . {kind} . inet_proto . inet_service; {_DYNAMIC} timeout {_REMEMBERED}; }}",
            *(
                declaration
                for prefix, source in (("", kind), ("network_", "ifname"))
                for declaration in (
                    f"set {prefix}allowed{version} {{ type {source} . {kind}; flags interval; }}",
                    f"set {prefix}named{version} {{ type {source} . {kind}; flags timeout; size {_SIZE}; }}",
                    f"set {prefix}used{version} {{ type {source} . {kind}; {_DYNAMIC} timeout {_USED}; }}",
                )
            ),
        )
    ),
    "chain egress_refused { }",
    *(f"chain egress_{prefix}{version} {{ }}" for prefix in ("container", "network") for version in _TYPES),
    "chain egress { }",
    "chain arriving { type filter hook prerouting priority mangle; policy accept; }",
    "chain input { type filter hook input priority filter; policy accept; }",
)
"""Of the engine's table: after whatever they name, before the chains that jump to `egress`."""


def _judging(chain: str, prefix: str, source: str, version: int) -> list[str]:
    """Whether one of those who are asked allows it: comes back if so."""
    pair = f"{source} . ct original {_FAMILIES[version]} daddr"
    return [
        f"chain {chain}{version} {{",
        f"\t{pair} @{prefix}allowed{version} return",
        f"\t{pair} @{prefix}named{version} update @{prefix}used{version} {{ {pair} }} return",
        f"\tct state established {pair} @{prefix}used{version} update @{prefix}used{version} {{ {pair} }} return",
        "\tgoto egress_refused",
        "}",
    ]


RULES = (
    "chain egress_refused {",
    "\tmeta pkttype { broadcast, multicast } drop",
    # A packet of no connection, as one beyond the window: an answer could end the connection that it is meant for.
    "\tct state invalid drop",
    *(
        f"\tmeta nfproto ipv{version} meta l4proto {which} update @refused{version} "
        f"{{ {family} saddr . ct original {family} daddr . meta l4proto . {port} counter }}"
        for version, family in _FAMILIES.items()
        for which, port in ((_WITH_PORTS, "ct original proto-dst"), (f"!= {_WITH_PORTS}", "0"))
    ),
    # kernel: ICMP is limited to one message a second and receiver after the first six, and of IPv6 it comes while connect(2) has the
    # socket, which then waits a second; and a connection that is to be cut does not heed it.
    # A reset is not translated back, ICMP is: what others' rules have led elsewhere has another address by now.
    "\tct status dnat fib daddr type != local reject with icmpx type admin-prohibited",
    "\treject with tcp reset",
    "\treject with icmpx type admin-prohibited",
    "}",
    *(line for version, family in _FAMILIES.items() for line in _judging("egress_container", "", f"{family} saddr", version)),
    *(line for version in _FAMILIES for line in _judging("egress_network", "network_", "iifname", version)),
    "chain egress {",
    "\tct direction reply return",
    *(f"\tiifname . {family} saddr @policed{version} jump egress_container{version}" for version, family in _FAMILIES.items()),
    *(f"\tmeta nfproto ipv{version} iifname @policed_networks jump egress_network{version}" for version in _FAMILIES),
    "}",
    "chain arriving {",
    # In one chain with what follows, since a chain that is hooked costs each packet more than a rule.
    "\tip daddr 127.0.0.0/8 iifname @bridges drop",
    # The first packet of a connection to the host, which may be about to be translated, and every one that will be.
    "\tct status dnat ct direction original iifname @bridges jump egress",
    "\tct state new iifname @bridges fib daddr type local jump egress",
    "}",
    "chain input {",
    # Most of what the host receives is answers, for which it has asked, and which no rule is about.
    "\tct direction reply accept",
    "\tiifname @internal meta l4proto . th dport vmap @relayed",
    f"\ticmpv6 type {_NEIGHBOURS} iifname @bridges accept",
    "\tiifname @bridges jump egress",
    "}",
)

KEPT = frozenset(line.split()[1] for line in DECLARATIONS if line.startswith("set "))
"""The sets whose elements are not made from the networks, and stay when the table is brought to what it should be."""

BRIDGE_DECLARATIONS = (
    "set guarded { type ifname; }",
    "set sources4 { type ifname . ipv4_addr; }",
    "set sources6 { type ifname . ipv6_addr; }",
    "chain source { }",
    "chain prerouting { type filter hook prerouting priority filter; policy accept; }",
    "chain input { type filter hook input priority filter; policy accept; }",
)
BRIDGE_RULES = (
    "chain source {",
    "\tmeta protocol ip iifname . ip saddr @sources4 return",
    "\tmeta protocol ip ip saddr 169.254.0.0/16 return",
    "\tmeta protocol ip6 iifname . ip6 saddr @sources6 return",
    "\tmeta protocol ip6 ip6 saddr fe80::/10 return",
    f"\tmeta protocol ip6 ip6 saddr :: icmpv6 type {_NEIGHBOURS} return",
    "\tmeta protocol arp iifname . arp saddr ip @sources4 return",
    "\tmeta protocol arp arp saddr ip { 0.0.0.0, 169.254.0.0/16 } return",
    "\tdrop",
    "}",
    "chain prerouting {",
    "\tiifname @guarded jump source",
    "}",
    "chain input {",
    f"\tiifname @guarded meta protocol ip6 icmpv6 type {_NEIGHBOURS} accept",
    "\tiifname @guarded meta protocol ip6 ip6 saddr fe80::/10 drop",
    "\tiifname @guarded meta protocol ip ip saddr 169.254.0.0/16 drop",
    "}",
)
