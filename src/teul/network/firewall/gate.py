"""Egress policies on the host: what of them is in the firewall of one engine. Every method blocks and raises `OSError`."""

from __future__ import annotations

import errno
from collections.abc import Collection, Mapping

from teul.network.firewall import egress, scripts
from teul.network.firewall.egress import Element, Refusal
from teul.network.ipam import Address


class EgressGate:
    """The elements of egress policies in an engine's tables. Nothing here remembers them; each method is one transaction or none."""

    def __init__(self, table: str) -> None:
        """`table` is the name of the engine's nftables table, and of the one for bridges."""
        self._table = table
        self._session = scripts.Session()

    def change(self, removed: Collection[Element], added: Collection[Element]) -> None:
        """Take elements out and put others in. Fails, and changes nothing, with ENOENT if one is not there, nobody was guarded before, or
        there is no firewall; with EEXIST if one overlaps what is there."""
        self._session.run(egress.render_change(self._table, removed, added))

    def set(self, wanted: Collection[Element]) -> None:
        """Have exactly these elements. Fails with ENOENT without a firewall."""
        self._session.run(egress.render_exactly(self._table, wanted))
        if not any(element.family == "bridge" for element in wanted):
            self.remove_guard()

    def resolve(self, addresses: Mapping[tuple[str, Address], float]) -> None:
        """Let sources reach addresses of names for so many seconds, see `egress.render_resolved`. Fails with ENOENT without a firewall."""
        self._session.run(egress.render_resolved(self._table, addresses))

    def forget(self, sources: Collection[str], *, others: bool = False) -> None:
        """Forget which addresses of names these sources could reach, and what they were refused; or what all `others` were.

        Nothing is done without a firewall.
        """
        try:
            left = scripts.list_elements(self._table, egress.LEFT_SETS)
        except FileNotFoundError:
            return
        script = egress.render_forgotten(self._table, left, lambda values: (values[0] in sources) != others)
        if script:
            self._session.run(script)

    def keep(self, kept: Mapping[str, Collection[str]]) -> None:
        """Of the addresses of names that each of these sources could reach, keep those that are given, and forget the others."""
        left = scripts.list_elements(self._table, egress.NAMED_SETS)
        script = egress.render_forgotten(self._table, left, lambda values: values[0] in kept and str(values[1]) not in kept[str(values[0])])
        if script:
            self._session.run(script)

    def refusals(self) -> list[Refusal]:
        """What was refused, within hours. Fails with ENOENT without a firewall."""
        return egress.refusals(scripts.list_elements(self._table, egress.REFUSED_SETS))

    def remove_guard(self) -> None:
        """Remove the table for bridges, which guards whose addresses containers send from. Idempotent."""
        try:
            self._session.run(egress.render_unguarded(self._table))
        except OSError as error:
            # Without nftables for bridges in the kernel nobody was guarded.
            if error.errno not in (errno.EOPNOTSUPP, errno.EAFNOSUPPORT, errno.EPROTONOSUPPORT):
                raise

    def close(self) -> None:
        """Let go of what is kept open. Idempotent."""
        self._session.close()
