"""`teul system check`: whether what the engine stores is what it was. docker has no such command."""

from __future__ import annotations

from teul.cli.command import Command
from teul.cli.errors import CliError
from teul.cli.options.parser import BOOL, Option

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from teul.cli.context import Context
    from teul.cli.options.parser import Options


def check(context: Context, options: Options, _arguments: list[str]) -> int:
    """1 if anything stays damaged."""
    outcome: dict[str, Any] | None = None
    for message in context.client.messages("POST", "/teul/system/check", {"repair": options.flag("repair")}):
        if "error" in message:
            raise CliError(str(message["error"]))
        if "finding" in message:
            context.streams.print(_line(message["finding"]))
        outcome = message.get("outcome", outcome)
    if outcome is None:
        raise CliError("the engine ended the check before it was done")
    context.streams.print(
        f"Checked {_count(outcome['blobs'], 'blob')} and {_count(outcome['layers'], 'layer')}: "
        f"{outcome['damaged']} damaged, {outcome['repaired']} repaired"
    )
    return 1 if outcome["damaged"] > outcome["repaired"] else 0


def _line(finding: dict[str, Any]) -> str:
    owners = f" of {', '.join(finding['images'])}" if finding["images"] else ""
    repaired = f" ({finding['repaired']})" if finding["repaired"] else ""
    return f"{finding['kind']} {finding['subject']}{owners}: {finding['damage']}{repaired}"


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}{'' if number == 1 else 's'}"


CHECK = Command(
    "check [OPTIONS]",
    "Check everything that is stored against its digests",
    check,
    options=(Option("repair", BOOL, "Repair what can be had again, and remove what is damaged and not needed"),),
    maximum=0,
    aliases="",
)
