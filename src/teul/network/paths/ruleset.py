"""An nftables ruleset as data: chains with their rules, and what is in sets and maps. Pure. Source: libnftables-json(5)."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import msgspec

Expression = Mapping[str, Any]
Key = tuple[str, str, str]
"""Family, table, name."""

_FAMILIES = {4: ("ip", "inet"), 6: ("ip6", "inet")}
# To look for a packet in a list of hundreds of thousands, as blocklists are, would take long, for each of its paths.
_MOST_ELEMENTS = 5000
_HANDLE = re.compile(r"\s*# handle (\d+)$")


@dataclass(frozen=True, slots=True)
class Rule:
    """`text` is the rule as nft writes it."""

    text: str
    expressions: tuple[Expression, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Chain:
    """A chain; a base chain has a `hook`, a `priority` among those of its hook, and a `policy`: accept or drop."""

    family: str
    table: str
    name: str
    kind: str = ""
    hook: str = ""
    priority: int = 0
    policy: str = "accept"
    rules: tuple[Rule, ...] = ()

    @property
    def title(self) -> str:
        """How to call it: `table inet teul, chain forward`."""
        return f"table {self.family} {self.table}, chain {self.name}"


@dataclass(frozen=True, slots=True)
class Ruleset:
    """What nftables has. `sets` has the elements of sets and maps as far as they were listed; of maps they are pairs.

    `own_chain` is the engine's chain among those of iptables: what its rules ask of a connection is known, though nftables does not tell.
    """

    chains: Mapping[Key, Chain] = field(default_factory=dict)
    sets: Mapping[Key, Sequence[Any]] = field(default_factory=dict)
    own_chain: str = ""

    def has_table(self, family: str, table: str) -> bool:
        """Whether there are chains in such a table."""
        return any(key[:2] == (family, table) for key in self.chains)

    def hooked(self, hook: str, version: int) -> Iterator[Chain]:
        """The base chains that packets of an IP version pass at a hook, in the order in which they do."""
        found = [chain for chain in self.chains.values() if chain.hook == hook and chain.family in _FAMILIES[version]]
        yield from sorted(found, key=lambda chain: chain.priority)


def parse_ruleset(document: str, listing: str, *, own_table: str = "", own_chain: str = "") -> Ruleset:
    """What `nft -j list ruleset` and `nft -a -t list ruleset` print: the rules' structure, and their words.

    What is in large sets of others' tables is left out, as if it was not known. Raises ValueError for what is no such document.
    """
    words = dict(_words(listing))
    chains: dict[Key, Chain] = {}
    rules: dict[Key, list[Rule]] = {}
    sets: dict[Key, Sequence[Any]] = {}
    for kind, entry in _entries(document):
        if kind == "chain":
            chains[_key(entry)] = Chain(
                family=entry["family"],
                table=entry["table"],
                name=entry["name"],
                kind=entry.get("type", ""),
                hook=entry.get("hook", ""),
                priority=entry.get("prio", 0),
                policy=entry.get("policy", "accept"),
            )
        elif kind == "rule":
            chain = (entry["family"], entry["table"], entry["chain"])
            text = words.get((*chain[:2], entry["handle"]), f"the rule with handle {entry['handle']}")
            rules.setdefault(chain, []).append(Rule(text, tuple(entry.get("expr", ()))))
        elif kind in ("set", "map"):
            elements = entry.get("elem", ())
            if len(elements) <= _MOST_ELEMENTS or entry["table"] == own_table:
                sets[_key(entry)] = tuple(elements)
    for key, found in rules.items():
        if key in chains:  # it may have been made after the chains were listed
            chains[key] = _with_rules(chains[key], found)
    return Ruleset(chains, sets, own_chain)


def _with_rules(chain: Chain, rules: Sequence[Rule]) -> Chain:
    return Chain(
        family=chain.family,
        table=chain.table,
        name=chain.name,
        kind=chain.kind,
        hook=chain.hook,
        priority=chain.priority,
        policy=chain.policy,
        rules=tuple(rules),
    )


def _entries(document: str) -> Iterator[tuple[str, dict[str, Any]]]:
    try:
        listed = msgspec.json.decode(document)["nftables"]
    except (msgspec.DecodeError, KeyError, TypeError) as error:
        raise ValueError("not a ruleset of nftables") from error
    for entry in listed:
        yield next(iter(entry.items()))


def _key(entry: dict[str, Any]) -> Key:
    return entry["family"], entry["table"], entry["name"]


def _words(listing: str) -> Iterator[tuple[tuple[str, str, int], str]]:
    """(family, table, handle) and text of every rule. A rule with many elements takes several lines, and the last has its handle."""
    family = table = ""
    is_in_chain = False
    lines: list[str] = []
    for line in listing.splitlines():
        depth, text = len(line) - len(line.lstrip("\t")), line.strip()
        if depth == 0 and text.startswith("table "):
            _, family, table, *_ = text.split()
        elif depth == 1:
            is_in_chain, lines = text.startswith("chain "), []
        elif is_in_chain and not text.startswith(("type ", "comment ")):
            lines.append(text)
            found = _HANDLE.search(text)
            if found:
                yield (family, table, int(found[1])), _HANDLE.sub("", " ".join(lines))
                lines = []
