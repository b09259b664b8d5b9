"""What the engine has ordered: the tables of names, a resolver for every container, and the relays of published ports."""

from __future__ import annotations

from typing import TYPE_CHECKING

from teul.linux.loop import Loop
from teul.network.agent.program.names import Names, Network, checked
from teul.network.agent.program.relays import Relay, Switchboard, parse_target
from teul.network.agent.program.reports import Reports
from teul.network.agent.program.resolver import Desk, Resolver
from teul.network.agent.program.upstream import Upstream

if TYPE_CHECKING:
    from collections.abc import Sequence

    from teul.network.agent.messages import (
        Answer,
        ContainerOrder,
        DropContainerOrder,
        DropNetworkOrder,
        DropRelayOrder,
        ListOrder,
        NamesOrder,
        Order,
        RelayOrder,
        RelaySocketOrder,
        ReportOrder,
    )

_SOCKETS = 3


class Refused(Exception):
    """An order that cannot be carried out; nothing was done. The text is for the engine's log."""


class Orders:
    """Carries out orders."""

    def __init__(self, loop: Loop) -> None:
        self._names = Names()
        self.reports = Reports(loop)
        self._desk = Desk(loop, names=self._names, upstream=Upstream(loop), reports=self.reports)
        self._resolvers: dict[str, Resolver] = {}
        self._board = Switchboard(loop)
        self._relays: dict[str, Relay] = {}

    @property
    def is_serving(self) -> bool:
        """Whether there is anybody to answer, or anything to pass on."""
        return bool(self._resolvers or self._relays)

    def lent(self, order: Order, answer: Answer) -> Sequence[int]:
        """The descriptors that ride along with the answer to an order; they stay here as well."""
        if "error" not in answer and order["order"] == "relay socket":
            return self._relays[order["id"]].descriptors[1:]
        return ()

    def carry_out(self, order: Order, descriptors: Sequence[int], drafts: dict[str, Network]) -> Answer:
        """Do what is ordered. The descriptors stay the caller's. `drafts` are the connection's own: tables that are still on their way."""
        try:
            if order["order"] == "container":
                return self._serve(order, descriptors)
            if order["order"] == "names":
                return self._change_names(order, drafts)
            if order["order"] == "drop network":
                return self._drop_network(order)
            if order["order"] == "drop container":
                return self._drop_container(order)
            if order["order"] == "relay":
                return self._relay(order, descriptors)
            if order["order"] == "drop relay":
                return self._drop_relay(order)
            if order["order"] == "relay socket":
                return self._lend(order)
            if order["order"] == "resolved":
                self.reports.finish(order["number"], is_allowed=order["allowed"])
                return {}
            if order["order"] == "report":
                return self._report(order)
            return self._list(order)
        except (Refused, OSError, ValueError, KeyError, TypeError, AttributeError) as error:
            return {"error": f"{type(error).__name__}: {error}"}

    def _change_names(self, order: NamesOrder, drafts: dict[str, Network]) -> Answer:
        network_id = order["id"]
        if order["begin"]:
            drafts[network_id] = Network(network_id, order["name"])
        elif network_id not in drafts:
            before = self._names.networks.get(network_id)
            if before is None:
                raise Refused(f"no network {network_id}")
            # The table itself, where this is all: one name among thousands is not worth a copy.
            drafts[network_id] = before if order["end"] else before.copy()
        try:
            drafts[network_id].change(order["names"], order["reverse"])
        except BaseException:
            del drafts[network_id]
            raise
        if order["end"]:
            self._names.networks[network_id] = drafts.pop(network_id)
        return {}

    def _drop_network(self, order: DropNetworkOrder) -> Answer:
        self._names.networks.pop(order["id"], None)
        return {}

    def _serve(self, order: ContainerOrder, descriptors: Sequence[int]) -> Answer:
        container_id, view = order["id"], checked(order["view"])
        before = self._resolvers.get(container_id)
        if not order["sockets"]:
            if before is None:
                raise Refused(f"no container {container_id}")
            before.view = view
            return {}
        if len(descriptors) != _SOCKETS:
            raise Refused(f"{len(descriptors)} descriptors for container {container_id}")
        resolver = Resolver(self._desk, container_id, view, descriptors, on_close=lambda closed: self._forget(container_id, closed))
        if before is not None:
            resolver.known = before.known
            before.close()
        self._resolvers[container_id] = resolver
        return {}

    def _forget(self, container_id: str, closed: Resolver) -> None:
        if self._resolvers.get(container_id) is closed:
            del self._resolvers[container_id]

    def _drop_container(self, order: DropContainerOrder) -> Answer:
        resolver = self._resolvers.get(order["id"])
        if resolver is not None:
            resolver.close()
        return {}

    def _relay(self, order: RelayOrder, descriptors: Sequence[int]) -> Answer:
        relay_id, target = order["id"], parse_target(order["address"], order["port"])
        before = self._relays.get(relay_id)
        if not order["socket"]:
            if before is None:
                raise Refused(f"no relay {relay_id}")
            descriptors = before.descriptors
        if before is None or order["socket"] or before.target != target:
            made = Relay(self._board, target, descriptors, on_close=lambda closed: self._forget_relay(relay_id, closed))
            if before is not None:
                before.close()
            self._relays[relay_id] = made
        return {"relays": [relay_id]}

    def _forget_relay(self, relay_id: str, closed: Relay) -> None:
        if self._relays.get(relay_id) is closed:
            del self._relays[relay_id]

    def _drop_relay(self, order: DropRelayOrder) -> Answer:
        relay = self._relays.get(order["id"])
        if relay is not None:
            relay.close()
        return {}

    def _lend(self, order: RelaySocketOrder) -> Answer:
        if order["id"] not in self._relays:
            raise Refused(f"no relay {order['id']}")
        return {"relays": [order["id"]]}

    def _report(self, order: ReportOrder) -> Answer:
        resolver = self._resolvers.get(order["id"])
        if resolver is None:
            raise Refused(f"no container {order['id']}")
        return {"names": resolver.known.names(), "refused": resolver.known.refused()}

    def _list(self, _order: ListOrder) -> Answer:
        return {"containers": sorted(self._resolvers), "networks": sorted(self._names.networks), "relays": sorted(self._relays)}
