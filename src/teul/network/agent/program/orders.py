"""What the engine has ordered: the tables of names, and a resolver for every container."""

from __future__ import annotations

from typing import TYPE_CHECKING

from teul.linux.loop import Loop
from teul.network.agent.program.names import Names, Network, checked
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
        ListOrder,
        NamesOrder,
        Order,
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

    @property
    def is_serving(self) -> bool:
        """Whether there is anybody to answer."""
        return bool(self._resolvers)

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

    def _report(self, order: ReportOrder) -> Answer:
        resolver = self._resolvers.get(order["id"])
        if resolver is None:
            raise Refused(f"no container {order['id']}")
        return {"names": resolver.known.names(), "refused": resolver.known.refused()}

    def _list(self, _order: ListOrder) -> Answer:
        return {"containers": sorted(self._resolvers), "networks": sorted(self._names.networks)}
