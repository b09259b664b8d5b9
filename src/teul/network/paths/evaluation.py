"""What the chains of a ruleset do with a packet that is known in part, without one being sent. Pure.

Each match of a rule is true, false or not known. A rule of which nothing is false and something is not known *may* apply: if it drops, that
is told as a doubt and the walk goes on behind it. So what is said to be dropped is dropped, and what is said to pass without doubts
passes; between the two stand the rules that nobody can judge without the packet itself (its source, limits, marks, foreign sets).
"""

from __future__ import annotations

import ipaddress
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from teul.network.ipam import Address
from teul.network.paths.packet import Packet, Value, all_of, any_of, is_in, value_of
from teul.network.paths.ruleset import Chain, Expression, Key, Rule, Ruleset

_DEEPEST = 16  # kernel: NFT_JUMP_STACK_SIZE
_DROPS = ("drop", "reject")
_WITHOUT_EFFECT = ("counter", "log", "mangle", "ct helper", "notrack", "comment")
# What reading a document raises that is not made as libnftables-json(5) says, or as it will say one day.
_UNKNOWN_SHAPE = (AttributeError, IndexError, KeyError, StopIteration, TypeError, ValueError)
_ACCEPT, _DROP, _RETURN = "accept", "drop", "return"


@dataclass(frozen=True, slots=True)
class Outcome:
    """What one base chain does. `by` is the rule, or the policy, that decides about the packet, "" where nothing does and it passes.

    `is_dropped` is certain; `doubts` are rules that may drop it, or send it elsewhere, before that. `translation` is where it goes from
    then on, `element` the map's element that says so, `is_masqueraded` that it goes on under an address of the host's.
    """

    chain: Chain
    is_dropped: bool = False
    is_rejected: bool = False
    by: str = ""
    doubts: tuple[str, ...] = ()
    translation: tuple[Address, int | None] | None = None
    element: str = ""
    is_masqueraded: bool = False


def evaluate(ruleset: Ruleset, chain: Chain, packet: Packet) -> Outcome:
    """What a base chain does with the packet."""
    walk = _Walk(ruleset, packet, chain)
    end = walk.chain(chain, 0)
    by, is_dropped = walk.by, end == _DROP
    if end in (None, _RETURN) and chain.policy == "drop":
        by, is_dropped = "policy drop", True
    doubts = walk.doubts
    if is_dropped and walk.may_have_passed:
        doubts, is_dropped = [*doubts, by], False
    return Outcome(
        chain,
        is_dropped=is_dropped,
        is_rejected=is_dropped and walk.is_rejected,
        by="" if doubts and by in doubts else by,
        doubts=tuple(dict.fromkeys(doubts)),
        translation=walk.translation,
        element=walk.element,
        is_masqueraded=walk.is_masqueraded,
    )


class _Walk:
    def __init__(self, ruleset: Ruleset, packet: Packet, base: Chain) -> None:
        self._ruleset = ruleset
        self._packet = packet
        self._base = base
        self._supposed = 0  # how many of the jumps that led here may not have been taken
        self.by = ""
        self.doubts: list[str] = []
        self.may_have_passed = False
        self.is_rejected = False
        self.translation: tuple[Address, int | None] | None = None
        self.element = ""
        self.is_masqueraded = False

    def _said(self, rule: Rule, chain: Chain) -> str:
        return rule.text if chain.name == self._base.name else f"{chain.name}: {rule.text}"

    def chain(self, chain: Chain, depth: int) -> str | None:
        """How the walk through a chain ends for a packet that gets there; None: behind its last rule."""
        for rule in chain.rules:
            end = self._rule(rule, chain, depth)
            if end is not None:
                return end
        return None

    def _rule(self, rule: Rule, chain: Chain, depth: int) -> str | None:
        """The end that the rule makes for certain. One of a shape that is not known here may make any."""
        try:
            return self._judge(rule, chain, depth)
        except _UNKNOWN_SHAPE:
            self.doubts.append(self._said(rule, chain))
            self.may_have_passed = True
            return None

    def _judge(self, rule: Rule, chain: Chain, depth: int) -> str | None:
        known: bool | None = True
        for expression in rule.expressions:
            kind, body = next(iter(expression.items()))
            if kind == "match":
                known = all_of([known, self._matches(body, chain)])
                if known is False:
                    return None
            elif kind == "xt" and (body or {}).get("name") == "conntrack" and chain.name == self._ruleset.own_chain:
                # What the engine's own chain asks for (forward_policy): an answer, or what was translated.
                known = all_of([known, self._packet.was_sent_to is not None])
                if known is False:
                    return None
            elif kind == "limit" or (kind == "xt" and (body or {}).get("type") != "target"):
                known = None
            elif kind not in _WITHOUT_EFFECT:
                end = self._statement(kind, body, rule, chain, certain=known is True, depth=depth)
                if end is not None:
                    return end
        return None

    def _statement(self, kind: str, body: Any, rule: Rule, chain: Chain, *, certain: bool, depth: int) -> str | None:
        if kind == "vmap":
            return self._verdict_map(body, rule, chain, certain=certain, depth=depth)
        if kind in ("jump", "goto"):
            return self._jump(body["target"], rule, chain, certain=certain, depth=depth, returns=kind == "jump")
        if kind in (*_DROPS, _ACCEPT, _RETURN):
            return self._end(kind, rule, chain, certain=certain)
        if kind in ("dnat", "redirect", "snat", "masquerade"):
            return self._translate(kind, body or {}, rule, chain, certain=certain)
        if kind == "xt" and (body or {}).get("name") in ("REJECT", "DROP"):
            return self._end("reject", rule, chain, certain=certain)
        if kind in ("xt", "queue", "tproxy", "fwd", "dup", "synproxy"):
            self.doubts.append(self._said(rule, chain))
        return None  # `set`, `meter`, `flow` and the like judge nothing

    def _end(self, kind: str, rule: Rule, chain: Chain, *, certain: bool) -> str | None:
        if kind == _RETURN:
            self.may_have_passed |= not certain
            return _RETURN if certain else None
        if certain and not self._supposed:
            self.by, self.is_rejected = self._said(rule, chain), kind == "reject"
            return _DROP if kind in _DROPS else kind
        if kind in _DROPS:
            self.doubts.append(self._said(rule, chain))
            return None if not certain else _RETURN  # whoever was led here for certain is gone
        self.may_have_passed = True
        return None if not certain else _RETURN

    def _jump(self, target: str, rule: Rule, chain: Chain, *, certain: bool, depth: int, returns: bool) -> str | None:
        found = self._ruleset.chains.get((chain.family, chain.table, target))
        if found is None or depth >= _DEEPEST:
            self.doubts.append(self._said(rule, chain))
            return None
        self._supposed += not certain
        end = self.chain(found, depth + 1)
        self._supposed -= not certain
        if end in (_ACCEPT, _DROP):
            return end
        # Behind a `goto` nobody comes back; the base chain's policy is next.
        return None if returns or not certain else _RETURN

    def _verdict_map(self, body: Expression, rule: Rule, chain: Chain, *, certain: bool, depth: int) -> str | None:
        value = value_of(body["key"], self._packet)
        elements = self._elements(body["data"], chain)
        if elements is None:
            self.doubts.append(self._said(rule, chain))
            return None
        for key, verdict in elements:
            answer = is_in(value, key)
            if answer is False:
                continue
            kind, target = next(iter(verdict.items()))
            end = self._statement(kind, target, rule, chain, certain=certain and answer is True, depth=depth)
            if end is not None or answer:
                return end
        return None

    def _translate(self, kind: str, body: Expression, rule: Rule, chain: Chain, *, certain: bool) -> str | None:
        if kind in ("snat", "masquerade"):
            if certain and not self._supposed:
                self.is_masqueraded = True
                return self._end(_ACCEPT, rule, chain, certain=True)
            return None  # under which address it goes on changes nothing of where it goes
        address, port, element = body.get("addr"), body.get("port"), ""
        if isinstance(address, dict) and "map" in address:
            if body.get("family") != ("ip" if self._packet.version == 4 else "ip6"):
                return None
            found = self._looked_up(address["map"], chain)
            if found is None:
                return None
            if found is Value.UNKNOWN:
                certain = False
            else:
                (address, port), element = found
        if not certain or self._supposed or not isinstance(address, str):
            self.doubts.append(self._said(rule, chain))
            return None
        target = ipaddress.ip_address(address)
        if target.version != self._packet.version:
            return None
        self.translation = target, port if isinstance(port, int) else self._packet.port
        self.element = element
        return self._end(_ACCEPT, rule, chain, certain=True)

    def _looked_up(self, body: Expression, chain: Chain) -> Any:
        """((address, port), the element's words) of the map's element for this packet; None if there is none."""
        value = value_of(body["key"], self._packet)
        elements = self._elements(body["data"], chain)
        if elements is None:
            return Value.UNKNOWN
        for key, data in elements:
            answer = is_in(value, key)
            if answer is None:
                return Value.UNKNOWN
            if answer:
                name = str(body["data"]).removeprefix("@")
                return tuple(data["concat"]) if isinstance(data, dict) else (data, None), f"{name} {{ {words(key)} : {words(data)} }}"
        return None

    def _matches(self, body: Expression, chain: Chain) -> bool | None:
        value, right = value_of(body["left"], self._packet), body["right"]
        if value is Value.ABSENT or (isinstance(value, tuple) and Value.ABSENT in value):
            return False
        if isinstance(right, str) and right.startswith("@"):
            elements = self._elements(right, chain)
            answer = None if elements is None else any_of([is_in(value, each) for each in elements])
        else:
            answer = is_in(value, right)
        operator = body["op"]
        if operator == "!=":
            return None if answer is None else not answer
        if operator in ("<", ">", "<=", ">="):
            return _compared(value, operator, right)
        return answer

    def _elements(self, data: Any, chain: Chain) -> Sequence[Any] | None:
        if isinstance(data, str):
            key: Key = (chain.family, chain.table, data.removeprefix("@"))
            return self._ruleset.sets.get(key)
        return data.get("set") if isinstance(data, Mapping) else None


def _compared(value: Any, operator: str, right: Any) -> bool | None:
    if not isinstance(value, int) or not isinstance(right, int):
        return None
    return {"<": value < right, ">": value > right, "<=": value <= right, ">=": value >= right}[operator]


def words(element: Any) -> str:
    """An element as nft writes it."""
    if isinstance(element, dict):
        kind, body = next(iter(element.items()))
        if kind == "concat":
            return " . ".join(words(part) for part in body)
        if kind == "prefix":
            return f"{body['addr']}/{body['len']}"
        if kind == "range":
            return f"{words(body[0])}-{words(body[1])}"
    return str(element)
