"""Paths of packets as text: each a heading with its verdict, and a line for each step."""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Any

MARKS = {"passes": "→", "translated": "⇒", "unsure": "?", "dropped": "✗", "refused": "✗"}
_RESULTS = {"reaches": "reaches", "unsure": "MAY NOT REACH", "dropped": "DROPPED", "refused": "REFUSED"}
_COLOURS = {"reaches": "\x1b[32m", "unsure": "\x1b[33m", "dropped": "\x1b[31m", "refused": "\x1b[31m"}
_RESET = "\x1b[0m"


def render(explanation: dict[str, Any], *, fancy: bool = False) -> str:
    """What `GET /teul/containers/{id}/network/explanation` answers, for people; with colours where `fancy`."""
    return "".join(f"{line}\n" for line in _lines(explanation, fancy=fancy))


def harmless(text: object) -> str:
    """Text of others' (names, comments of rules) without what would move the cursor."""
    return "".join(letter if letter.isprintable() else "?" for letter in str(text))


def heading(path: dict[str, Any]) -> str:
    """Which packet it is: `another host → 192.0.2.1:8080/tcp`."""
    place = path["Destination"]
    return f"{path['Source']} → {place}" + (f"/{path['Protocol']}" if path["Port"] else f", IPv{path['IpVersion']}")


def verdict(path: dict[str, Any]) -> str:
    """What becomes of it: `REFUSED at step 3: nothing listens on port 80/tcp inside`."""
    found = path["Verdict"]
    text = _RESULTS.get(found["Result"], found["Result"])
    return f"{text} at step {found['Step']}: {found['Reason']}" if found["Step"] else text


def _lines(explanation: dict[str, Any], *, fancy: bool) -> Iterator[str]:
    yield f"{harmless(explanation['Name'])} ({explanation['Id'][:12]}){'' if explanation['Running'] else ', not running'}"
    for note in explanation["Notes"]:
        yield f"  note: {harmless(note)}"
    for network in explanation["Networks"]:
        yield from _network(network)
    for name in explanation["Names"]:
        yield f"  names: {harmless(name)}"
    for path in explanation["Paths"]:
        yield ""
        colour = _COLOURS.get(path["Verdict"]["Result"], "") if fancy else ""
        yield f"{harmless(heading(path))}: {colour}{harmless(verdict(path))}{_RESET if colour else ''}"
        for number, step in enumerate(path["Steps"], 1):
            yield f"  {number:2} {MARKS.get(step['Action'], ' ')} {harmless(step['Where'])}: {harmless(step['What'])}"
            for evidence in step["Evidence"]:
                yield f"         {harmless(evidence)}"
        if path["Verdict"]["Remedy"]:
            yield f"  what to do: {harmless(path['Verdict']['Remedy'])}"


def _network(network: dict[str, Any]) -> Iterator[str]:
    ways = " and ".join(f"IPv{version}" for version in network["WayOut"])
    parts = [
        ", ".join(network["Addresses"]),
        network["MacAddress"],
        f"{network['Interface']} inside" if network["Interface"] else "",
        f"{network['HostInterface']} on bridge {network['Bridge']}" if network["HostInterface"] else network["Bridge"],
        f"gateway {', '.join(network['Gateways'])}" if network["Gateways"] else "",
        f"the way out of {ways}" if ways else "",
        "internal" if network["Internal"] else "",
    ]
    yield f"  network {harmless(network['Name'])} ({network['Driver']}): {harmless('; '.join(part for part in parts if part))}"
