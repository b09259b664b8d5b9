"""One packet's way in the making: what each who looks at it does, until it is there or gone. Pure."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Literal

from teul.model.explanation import Action, Path, Step, Verdict
from teul.network.paths.evaluation import Outcome, evaluate
from teul.network.paths.facts import Facts
from teul.network.paths.packet import Packet

_FORWARDING = {4: "net/ipv4/ip_forward", 6: "net/ipv6/conf/all/forwarding"}


# What the engine's own rules mean by a drop, by the rule.
_MEANINGS = {
    "from_bridges: iifname @internal drop": "the network that it comes from is internal: nothing leaves it",
    "to_bridges: oifname @internal drop": "the container's network is internal: nothing comes in",
    "to_bridges: drop": "what is not published is for the container's own network only",
}


class Journey:
    """Begins with nothing. When it has ended nothing more is to be added; what passes many at once does nothing then."""

    def __init__(self, facts: Facts, packet: Packet, *, source: str, destination: str, direction: Literal["in", "out"]) -> None:
        self.facts = facts
        self.packet = packet
        self._has_ended = False
        self._ends = (source, destination, direction)
        self._first = packet
        self._steps: list[Step] = []
        self._verdict = Verdict(result="reaches")

    def add(
        self,
        where: str,
        what: str,
        action: Action = "passes",
        *,
        evidence: Sequence[str] = (),
        reason: str = "",
        remedy: str = "",
    ) -> None:
        """One more step; of one at which the packet does not simply go on, with the `reason`, and what to do about it."""
        assert not self._has_ended
        self._steps.append(Step(where=where, what=what, action=action, evidence=list(evidence)))
        if action in ("dropped", "refused"):
            self._has_ended = True
            self._verdict = Verdict(result=action, step=len(self._steps), reason=reason, remedy=remedy)
        elif action == "unsure" and self._verdict.result == "reaches":
            self._verdict = Verdict(result="unsure", step=len(self._steps), reason=reason, remedy=remedy)

    def has_ended(self) -> bool:
        """Whether the packet is gone."""
        return self._has_ended

    def path(self) -> Path:
        """What has become of it."""
        source, destination, direction = self._ends
        return Path(
            source=source,
            destination=destination,
            direction=direction,
            ip_version=self._first.version,
            protocol=self._first.protocol,
            port=self._first.port or 0,
            steps=self._steps,
            verdict=self._verdict,
        )

    def pass_hook(self, hook: str) -> None:
        """All base chains of nftables at a hook look at the packet, and change where it goes."""
        if self._has_ended:
            return
        host = self.facts.host
        quiet: list[str] = []
        for chain in host.ruleset.hooked(hook, self.packet.version):
            if chain.kind == "nat" and hook in ("prerouting", "output") and self.packet.was_sent_to is not None:
                continue  # kernel: translated once, it is no chain's any more
            outcome = evaluate(host.ruleset, chain, self.packet)
            is_own = (chain.family, chain.table) == ("inet", host.table)
            if outcome.is_dropped:
                self._drop(outcome, is_own=is_own)
                break
            if outcome.doubts:
                self._doubt(outcome, is_own=is_own)
            if outcome.translation is not None:
                self._translate(outcome)
            elif outcome.is_masqueraded:
                self.add(
                    chain.title,
                    "goes on under the host's address, so that the answer comes back this way",
                    "translated",
                    evidence=[outcome.by],
                )
            elif not outcome.doubts and is_own and chain.kind != "nat":
                self.add(chain.title, "lets it pass", evidence=[outcome.by] if outcome.by else ())
            elif not outcome.doubts and not is_own:
                quiet.append(chain.title)
        if quiet and not self._has_ended:
            self.add(f"nftables, hook {hook}", "chains of others let it pass", evidence=quiet)

    def _drop(self, outcome: Outcome, *, is_own: bool) -> None:
        title = outcome.chain.title
        remedy = f"allow it in {title}: nft -a list chain {outcome.chain.family} {outcome.chain.table} {outcome.chain.name}"
        if is_own:
            by_user = outcome.by.startswith("user: ")
            remedy = f"nft -a list chain inet {outcome.chain.table} user: the rule is the administrator's" if by_user else ""
        action: Action = "refused" if outcome.is_rejected else "dropped"
        said = _MEANINGS.get(outcome.by, outcome.by) if is_own else outcome.by
        reason = f"{title} {'rejects' if outcome.is_rejected else 'drops'} it: {said}"
        self.add(title, f"is {action}", action, evidence=[outcome.by], reason=reason, remedy=remedy)

    def _doubt(self, outcome: Outcome, *, is_own: bool) -> None:
        title = outcome.chain.title
        remedy = "tell the address of who does not get there: --from ADDRESS" if self.facts.asker is None and self._ends[2] == "in" else ""
        if not is_own and not remedy:
            remedy = f"nft -a list table {outcome.chain.family} {outcome.chain.table}"
        self.add(
            title,
            "may drop it, or send it elsewhere: what these rules ask for is not known",
            "unsure",
            evidence=outcome.doubts,
            reason=f"{title} may drop it",
            remedy=remedy,
        )

    def _translate(self, outcome: Outcome) -> None:
        assert outcome.translation is not None
        address, port = outcome.translation
        self.packet = dataclasses.replace(
            self.packet,
            destination=address,
            port=port,
            was_sent_to=(self.packet.destination, self.packet.port),
            is_local=self.facts.host.is_own(address),
        )
        evidence = [text for text in (outcome.by, outcome.element) if text]
        self.add(outcome.chain.title, f"translated: goes to {self.packet.place}", "translated", evidence=evidence)

    def pass_legacy(self) -> None:
        """The FORWARD chain of iptables-legacy, where there is one, whose rules are not evaluated here."""
        for chain in self.facts.host.legacy:
            if chain.version != self.packet.version or self._has_ended:
                continue
            where = f"{chain.name}-legacy, chain FORWARD"
            others = [rule for rule in chain.rules if self._may_concern(rule) and not rule.endswith("-j ACCEPT")]
            if chain.has_own_chain:
                others = [rule for rule in others if not rule.startswith("-A FORWARD -j TEUL")]
            if chain.policy_drops and not chain.has_own_chain and not chain.rules:
                remedy = "start a container, or restart the engine: it lets its containers' packets pass then"
                self.add(where, "is dropped", "dropped", evidence=["policy DROP"], reason=f"{where}: policy DROP", remedy=remedy)
            elif others or (chain.policy_drops and not chain.has_own_chain):
                evidence = [*others, *(["policy DROP"] if chain.policy_drops else [])]
                reason = f"{where} may drop it: its rules were not evaluated"
                self.add(where, "may drop it: its rules were not evaluated", "unsure", evidence=evidence, reason=reason)
            else:
                self.add(
                    where, "lets it pass", evidence=["policy DROP, and behind it the engine's own chain"] if chain.policy_drops else ()
                )

    def _may_concern(self, rule: str) -> bool:
        """Whether a rule of iptables may be about the packet: not if it names another interface."""
        words = rule.split()
        for option, name in (("-i", self.packet.input), ("-o", self.packet.output)):
            if option in words and isinstance(name, str):
                position = words.index(option)
                pattern, negated = words[position + 1], words[position - 1] == "!"
                fits = name.startswith(pattern[:-1]) if pattern.endswith("+") else name == pattern
                if fits == negated:
                    return False
        return True

    def check_forwarding(self) -> None:
        """Whether the host forwards at all."""
        if self._has_ended:
            return
        settings = [_FORWARDING[self.packet.version]]
        if self.packet.version == 4 and isinstance(self.packet.input, str):
            settings.append(f"net/ipv4/conf/{self.packet.input}/forwarding")
        off = next((each for each in settings if self.facts.host.settings.get(each) == "0"), None)
        if off is not None:
            name = off.replace("/", ".")
            self.add(
                "the host",
                "does not forward",
                "dropped",
                evidence=[f"{name} = 0"],
                reason=f"{name} is 0",
                remedy=f"sysctl -w {name}=1",
            )
