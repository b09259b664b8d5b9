"""Egress policies, and the ports of links, on a host that does as it is told."""

from __future__ import annotations

import errno
import ipaddress
from collections.abc import Collection, Mapping

from teul.network.firewall.egress import Element, Refusal
from teul.network.firewall.gate import EgressGate
from teul.network.firewall.linked import LinkedPort, LinkGate
from teul.network.ipam import Address


class FakeGate(EgressGate):
    """Remembers the elements; fails with `error` while one is set."""

    def __init__(self) -> None:
        super().__init__("teul_fake")
        self.elements: frozenset[Element] | None = None  # None: there is no firewall
        self.is_guarded = False
        self.resolved: dict[tuple[str, Address], float] = {}
        self.refused: list[Refusal] = []
        self.error: OSError | None = None

    def change(self, removed: Collection[Element], added: Collection[Element]) -> None:
        present = self._present()
        if not present.issuperset(removed):
            raise FileNotFoundError(errno.ENOENT, "nft: No such file or directory")
        if not self.is_guarded and any(element.family == "bridge" for element in added):
            raise FileNotFoundError(errno.ENOENT, "nft: No such file or directory")
        left = present - frozenset(removed)
        if any(_overlap(each, other) for each in added for other in left if each != other):
            raise FileExistsError(errno.EEXIST, "nft: File exists")
        self.elements = left | frozenset(added)

    def set(self, wanted: Collection[Element]) -> None:
        self._present()
        self.elements = frozenset(wanted)
        self.is_guarded = any(element.family == "bridge" for element in wanted)

    def resolve(self, addresses: Mapping[tuple[str, Address], float]) -> None:
        self._present()
        self.resolved.update(addresses)

    def forget(self, sources: Collection[str], *, others: bool = False) -> None:
        if self.elements is None:
            return
        self.resolved = {key: seconds for key, seconds in self.resolved.items() if (key[0] in sources) == others}
        self.refused = [each for each in self.refused if (str(each.source) in sources) == others]

    def keep(self, kept: Mapping[str, Collection[str]]) -> None:
        self._present()
        self.resolved = {key: seconds for key, seconds in self.resolved.items() if key[0] not in kept or str(key[1]) in kept[key[0]]}

    def refusals(self) -> list[Refusal]:
        self._present()
        return list(self.refused)

    def remove_guard(self) -> None:
        if self.elements is not None:
            self.elements = frozenset(element for element in self.elements if element.family != "bridge")
        self.is_guarded = False

    def close(self) -> None:
        pass

    def _present(self) -> frozenset[Element]:
        if self.error is not None:
            raise self.error
        if self.elements is None:
            raise FileNotFoundError(errno.ENOENT, "nft: No such file or directory")
        return self.elements


class FakeLinkGate(LinkGate):
    """Remembers the elements; fails with `error` while one is set."""

    def __init__(self) -> None:
        super().__init__("teul_fake")
        self.elements: frozenset[LinkedPort] | None = None  # None: there is no firewall
        self.error: OSError | None = None

    def change(self, removed: Collection[LinkedPort], added: Collection[LinkedPort]) -> None:
        present = self._present()
        if not present.issuperset(removed):
            raise FileNotFoundError(errno.ENOENT, "nft: No such file or directory")
        self.elements = present - frozenset(removed) | frozenset(added)

    def set(self, wanted: Collection[LinkedPort]) -> None:
        self._present()
        self.elements = frozenset(wanted)

    def close(self) -> None:
        pass

    def _present(self) -> frozenset[LinkedPort]:
        if self.error is not None:
            raise self.error
        if self.elements is None:
            raise FileNotFoundError(errno.ENOENT, "nft: No such file or directory")
        return self.elements


def _overlap(one: Element, other: Element) -> bool:
    if one.set_name != other.set_name or "allowed" not in one.set_name:
        return False
    (source, network), (other_source, other_network) = one.key.split(" . "), other.key.split(" . ")
    return source == other_source and ipaddress.ip_network(network).overlaps(ipaddress.ip_network(other_network))
