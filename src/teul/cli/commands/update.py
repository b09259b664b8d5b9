"""`teul update`: other limits, and another restart policy, for containers that are there already."""

from __future__ import annotations

from teul.cli.command import Command
from teul.cli.commands.lifecycle import for_each
from teul.cli.creation.config import parse_restart_policy
from teul.cli.errors import CliError
from teul.cli.options.parser import Option
from teul.client.api import container_path

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from teul.cli.context import Context
    from teul.cli.options.parser import Options

_NUMBERS = {
    "blkio-weight": "BlkioWeight",
    "cpu-period": "CpuPeriod",
    "cpu-quota": "CpuQuota",
    "cpu-rt-period": "CpuRealtimePeriod",
    "cpu-rt-runtime": "CpuRealtimeRuntime",
    "cpu-shares": "CpuShares",
    "cpus": "NanoCpus",
    "memory": "Memory",
    "memory-reservation": "MemoryReservation",
    "memory-swap": "MemorySwap",
}
_TEXTS = {"cpuset-cpus": "CpusetCpus", "cpuset-mems": "CpusetMems"}


def update(context: Context, options: Options, arguments: list[str]) -> int:
    if not any(options.given(option.name) for option in UPDATE.options):
        raise CliError("you must provide one or more flags when using this command")
    body: dict[str, Any] = {key: options.number(name) for name, key in _NUMBERS.items()}
    body |= {key: options.text(name) for name, key in _TEXTS.items()}
    # docker: 0 leaves the limit as it is; -1 takes it off.
    body["PidsLimit"] = options.number("pids-limit") or None
    try:
        body["RestartPolicy"] = parse_restart_policy(options.text("restart"))
    except ValueError as error:
        raise CliError(str(error)) from None
    warnings: list[str] = []

    def work(reference: str) -> str:
        answer = context.client.post(container_path(reference, "update"), body=body)
        warnings.extend(answer.get("Warnings") or ())
        return reference

    status = for_each(context, arguments, work)
    for warning in warnings:
        context.streams.print(warning)
    return status


UPDATE = Command(
    "update [OPTIONS] CONTAINER [CONTAINER...]",
    "Update configuration of one or more containers",
    update,
    options=(
        Option("blkio-weight", "uint16", "Block IO (relative weight), between 10 and 1000, or 0 to disable (default 0)"),
        Option("cpu-period", "int", "Limit CPU CFS (Completely Fair Scheduler) period"),
        Option("cpu-quota", "int", "Limit CPU CFS (Completely Fair Scheduler) quota"),
        Option("cpu-rt-period", "int", "Limit the CPU real-time period in microseconds"),
        Option("cpu-rt-runtime", "int", "Limit the CPU real-time runtime in microseconds"),
        Option("cpu-shares", "int", "CPU shares (relative weight)", short="c"),
        Option("cpus", "decimal", "Number of CPUs"),
        Option("cpuset-cpus", "string", "CPUs in which to allow execution (0-3, 0,1)"),
        Option("cpuset-mems", "string", "MEMs in which to allow execution (0-3, 0,1)"),
        Option("memory", "bytes", "Memory limit", short="m"),
        Option("memory-reservation", "bytes", "Memory soft limit"),
        Option("memory-swap", "bytes or -1", "Swap limit equal to memory plus swap: -1 to enable unlimited swap"),
        Option("pids-limit", "int", "Tune container pids limit (set -1 for unlimited)"),
        Option("restart", "string", "Restart policy to apply when a container exits"),
    ),
    minimum=1,
    aliases="container update, update",
)
