"""What an engine and its network agent tell each other, written down once for both ends.

    engine  -- Order (+ descriptors) -->  agent
    engine  <-- Answer (+ a descriptor) --  agent   one to each order, in their order
    engine  <-- Resolved --  agent                  at any time; the engine answers with an order

The documents are JSON objects, one to a message (`linux/seqpacket`). The connection is as old as the agent, for the engine that has started
it, or made by way of the listening socket, by engines that come later. No order is lost or doubled: an agent that ends takes all it holds
along, and whoever starts the next one says everything again.

A network's names come as a difference from what the agent holds, and in several messages where they are many, for a message has bounds
(net.core.wmem_max); they are in force from the last one of them on. stdlib only.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Literal, NotRequired, TypedDict

    class NetworkTable(TypedDict):
        """What names there are in a network, and what they stand for."""

        id: str
        name: str
        names: dict[str, list[str]]  # name or alias → IPv4 and IPv6 addresses of all that are called so
        reverse: dict[str, str]  # address → "name.network"

    class View(TypedDict):
        """What a container sees of the networks, and who is asked what no network knows."""

        networks: list[str]  # ids, in the order in which they are asked
        links: dict[str, dict[str, list[str]]]  # network id → alias → addresses; none while what is linked does not run
        servers: list[str]  # of upstream servers, in the order in which they are asked: "192.0.2.1", "192.0.2.1:5353", "[2001:db8::1]:5353"
        forwards: bool  # False: what no network knows is answered with a failure
        allowed: NotRequired[list[list[str]]]  # of each egress policy the names that it allows: only what each of them does is forwarded

    class NamesOrder(TypedDict):
        """Change the table of a network, or make it. An empty list, or an empty name in `reverse`, takes the entry away."""

        order: Literal["names"]
        id: str
        name: str
        names: dict[str, list[str]]
        reverse: dict[str, str]
        begin: bool  # from an empty table, not from the one that is there
        end: bool  # in force from now on; until then more is to come

    class DropNetworkOrder(TypedDict):
        order: Literal["drop network"]
        id: str

    class ContainerOrder(TypedDict):
        """Serve a container, or give it another view. Where `sockets` is True three descriptors ride along, which replace those before:

        a pidfd of the container's first process, the UDP socket and the TCP one (`linux/resolver`).
        """

        order: Literal["container"]
        id: str
        view: View
        sockets: bool

    class DropContainerOrder(TypedDict):
        order: Literal["drop container"]
        id: str

    class RelayOrder(TypedDict):
        """Pass on what comes to a port of the host, or from now on elsewhere. Where `socket` is True two descriptors ride along:

        a pidfd of the container's first process, and the port's socket, which listens or is bound, and does not block. They replace those
        before.
        """

        order: Literal["relay"]
        id: str
        address: str  # the container's
        port: int
        socket: bool

    class DropRelayOrder(TypedDict):
        order: Literal["drop relay"]
        id: str

    class RelaySocketOrder(TypedDict):
        """Give an engine that has none a copy of a relay's socket: it rides along with the answer."""

        order: Literal["relay socket"]
        id: str

    class ListOrder(TypedDict):
        order: Literal["list"]

    class ResolvedOrder(TypedDict):
        """What was asked under this number is done: the container may reach the addresses, and is told them; or it may not."""

        order: Literal["resolved"]
        number: int
        allowed: bool

    class ReportOrder(TypedDict):
        """What of a container's egress policy the agent knows."""

        order: Literal["report"]
        id: str

    Order = (
        NamesOrder
        | DropNetworkOrder
        | ContainerOrder
        | DropContainerOrder
        | RelayOrder
        | DropRelayOrder
        | RelaySocketOrder
        | ListOrder
        | ResolvedOrder
        | ReportOrder
    )

    class Resolved(TypedDict):
        """A name that a container's policy allows has these addresses for so many seconds. The container waits for the engine's order."""

        resolved: str
        number: int
        container: str
        addresses: list[tuple[str, int]]

    class Answer(TypedDict):
        """`error`: why nothing was done. Containers, networks and relays are the answer to "list"; the relay that it is about, to an order
        about one that there is then; the last two to "report"."""

        error: NotRequired[str]
        containers: NotRequired[list[str]]
        networks: NotRequired[list[str]]
        relays: NotRequired[list[str]]
        names: NotRequired[dict[str, dict[str, int]]]  # allowed names → their addresses → for how many seconds yet, 0 if they are over
        refused: NotRequired[dict[str, int]]  # names that were not forwarded, and how often they were asked for
else:
    ResolvedOrder = ReportOrder = Resolved = dict
    NetworkTable = View = NamesOrder = DropNetworkOrder = ContainerOrder = DropContainerOrder = ListOrder = Order = Answer = dict
    RelayOrder = DropRelayOrder = RelaySocketOrder = dict

SOCKET_FILE = "agent.sock"
