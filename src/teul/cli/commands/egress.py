"""`teul network egress`: what a container, or all containers of a network, may reach beyond it; shown, or changed while they run."""

from __future__ import annotations

from teul.cli.command import Command
from teul.cli.commands.network import network_path
from teul.cli.options.parser import BOOL, Option
from teul.client.api import container_path

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from teul.cli.context import Context
    from teul.cli.options.parser import Options

_PROTOCOLS = {1: "icmp", 6: "tcp", 17: "udp", 33: "dccp", 58: "icmp", 132: "sctp", 136: "udplite"}


def egress(context: Context, options: Options, arguments: list[str]) -> int:
    subject, *setting = arguments
    path = network_path(subject, "egress") if options.flag("network") else container_path(subject, "egress")
    if setting:
        context.client.post(f"/teul{path}", body={"Egress": setting})
        context.streams.print(subject)
        return 0
    context.streams.write(_render(context.client.get(f"/teul{path}")))
    return 0


def _render(report: dict[str, Any]) -> str:
    lines = [f"Allowed: {_rules(report['Egress'])}"]
    lines += [f"Allowed on network {name}: {_rules(rules)}" for name, rules in (report.get("Networks") or {}).items()]
    text = "".join(f"{line}\n" for line in lines)
    names, refused_names = report.get("Names") or {}, report.get("RefusedNames") or {}
    if names:
        rows = [f"{name}\t{each['Address']}\t{each['Seconds']} seconds" for name, addresses in names.items() for each in addresses]
        text += "\n" + _table("NAME\tADDRESS\tFOR", rows)
    if refused_names:
        text += "\n" + _table("REFUSED NAME\tQUERIES", [f"{name}\t{count}" for name, count in refused_names.items()])
    refused = report.get("Refused") or []
    if refused:
        rows = [f"{_place(each)}\t{_protocol(each)}\t{each['Packets']}" for each in refused]
        text += "\n" + _table("REFUSED\tPROTOCOL\tPACKETS", rows)
    return text


def _table(header: str, rows: list[str]) -> str:
    from teul.cli.format.tabwriter import TabWriter

    return TabWriter(minimum=10, padding=3).render("".join(f"{row}\n" for row in (header, *rows)))


def _rules(rules: list[str] | None) -> str:
    return "any" if rules is None else ", ".join(rules)


def _place(refused: dict[str, Any]) -> str:
    address, port = str(refused["Address"]), refused["Port"]
    if not port:
        return address
    return f"[{address}]:{port}" if ":" in address else f"{address}:{port}"


def _protocol(refused: dict[str, Any]) -> str:
    return _PROTOCOLS.get(refused["Protocol"], str(refused["Protocol"]))


EGRESS = Command(
    "egress [OPTIONS] CONTAINER|NETWORK [RULE[,RULE...]...]",
    "Show or change what a container, or a network's containers, may reach beyond it",
    egress,
    options=(Option("network", BOOL, "Show or change the policy of a network"),),
    minimum=1,
)
