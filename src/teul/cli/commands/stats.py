"""`teul stats`: what containers use, once or again every second.

docker keeps a stream open for every container; this command asks for one sample of each at a time (which costs the engine a millisecond)
and holds it against the sample before, so one thread and one connection do.
"""

from __future__ import annotations

from time import sleep

from teul.cli.command import Command
from teul.cli.errors import CliError
from teul.cli.format.listing import FORMAT_HELP, Listing, Row
from teul.cli.format.units import binary_size, human_size, short_id
from teul.cli.options.parser import BOOL, Option
from teul.client.api import container_path
from teul.client.errors import ApiError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from typing import Any, ClassVar

    from teul.cli.context import Context
    from teul.cli.options.parser import Options

_PERIOD_SECONDS = 1.0
_COLUMNS = ("ID", "Name", "CPUPerc", "MemUsage", "MemPerc", "NetIO", "BlockIO", "PIDs")
_HEADERS = {
    "Container": "CONTAINER",
    "Name": "NAME",
    "ID": "CONTAINER ID",
    "CPUPerc": "CPU %",
    "MemUsage": "MEM USAGE / LIMIT",
    "MemPerc": "MEM %",
    "NetIO": "NET I/O",
    "BlockIO": "BLOCK I/O",
    "PIDs": "PIDS",
}
# Cursor to the top left; clear to the end of the line; clear to the end of the screen.
_HOME, _REST_OF_LINE, _REST_OF_SCREEN = "\033[H", " \033[K\n", "\033[J"


class StatsRow(Row):
    """One container: its present sample and the sample before. Without a sample nothing is known of it, which is shown as `--`."""

    def __init__(self, reference: str, sample: dict[str, Any] | None, before: dict[str, Any] | None, *, whole: bool) -> None:
        self.reference = reference
        self.sample = sample
        self.before = before
        self.whole = whole

    def identifier(self) -> str:
        known = str((self.sample or self.before or {}).get("id", ""))
        return known if self.whole else short_id(known)

    def name(self) -> str:
        return str((self.sample or self.before or {}).get("name", ""))[1:] or "--"

    def cpu(self) -> str:
        return f"{cpu_percent(self.before or {}, self.sample):.2f}%" if self.sample is not None else "--"

    def memory(self) -> str:
        if self.sample is None:
            return "-- / --"
        return f"{binary_size(memory_used(self.sample))} / {binary_size(_at(self.sample, 'memory_stats', 'limit'))}"

    def memory_share(self) -> str:
        if self.sample is None:
            return "--"
        limit = _at(self.sample, "memory_stats", "limit")
        return f"{memory_used(self.sample) / limit * 100 if limit else 0:.2f}%"

    def network(self) -> str:
        if self.sample is None:
            return "--"
        interfaces = (self.sample.get("networks") or {}).values()
        return " / ".join(human_size(sum(counters.get(key) or 0 for counters in interfaces), 3) for key in ("rx_bytes", "tx_bytes"))

    def block(self) -> str:
        if self.sample is None:
            return "--"
        entries = (self.sample.get("blkio_stats") or {}).get("io_service_bytes_recursive") or []
        # v1 says Read, v2 read; and among v1's operations are Sync and Total, which count the same bytes again.
        return " / ".join(
            human_size(sum(entry["value"] for entry in entries if str(entry.get("op"))[:1].lower() == letter), 3) for letter in ("r", "w")
        )

    def processes(self) -> str:
        return str(_at(self.sample, "pids_stats", "current")) if self.sample is not None else "--"

    FIELDS: ClassVar[Mapping[str, Callable[[Any], str | None]]] = {
        "Container": lambda row: str(row.reference),
        "Name": name,
        "ID": identifier,
        "CPUPerc": cpu,
        "MemUsage": memory,
        "MemPerc": memory_share,
        "NetIO": network,
        "BlockIO": block,
        "PIDs": processes,
    }


def cpu_percent(before: dict[str, Any], sample: dict[str, Any]) -> float:
    """The share of one processor that the container had between two samples, in percent: 200 is two processors."""

    def grown(*keys: str) -> int:
        return _at(sample, "cpu_stats", *keys) - _at(before, "cpu_stats", *keys)

    used, available = grown("cpu_usage", "total_usage"), grown("system_cpu_usage")
    processors = _at(sample, "cpu_stats", "online_cpus")
    is_first = not _at(before, "cpu_stats", "system_cpu_usage")  # the container has just been started
    return used / available * processors * 100 if used > 0 and available > 0 and not is_first else 0.0


def memory_used(sample: dict[str, Any]) -> int:
    """Bytes of memory in use. docker: without the page cache that could go at any time."""
    usage = _at(sample, "memory_stats", "usage")
    stats = (sample.get("memory_stats") or {}).get("stats") or {}
    for name in ("total_inactive_file", "inactive_file"):  # v1, v2
        if name in stats and stats[name] < usage:
            return int(usage - stats[name])
    return usage


def _at(document: dict[str, Any] | None, *keys: str) -> int:
    value: Any = document or {}
    for key in keys:
        value = (value or {}).get(key)
    return int(value or 0)


def stats(context: Context, options: Options, arguments: list[str]) -> int:
    listing = Listing(_COLUMNS, _HEADERS)
    format_ = options.text("format") or str(context.config.get("statsFormat") or "")
    once = options.flag("no-stream")
    samples = _collect(context, options, arguments, is_first=True)
    while True:
        sleep(_PERIOD_SECONDS)
        before, samples = samples, _collect(context, options, arguments)
        rows = [StatsRow(reference, sample, before.get(reference), whole=options.flag("no-trunc")) for reference, sample in samples.items()]
        text = listing.render(rows, format_)
        if once:
            context.streams.write(text)
            return 0
        lines = "".join(line + _REST_OF_LINE for line in f"{_HOME}{text}".split("\n"))
        context.streams.write(lines + _REST_OF_SCREEN)


def _collect(context: Context, options: Options, references: list[str], *, is_first: bool = False) -> dict[str, dict[str, Any] | None]:
    """A sample of every container that was named, or else of all that there are now. None for a container that is gone."""
    named = dict.fromkeys(references)
    wanted = list(named) or [container["Id"][:12] for container in context.client.get("/containers/json", {"all": options.flag("all")})]
    samples: dict[str, dict[str, Any] | None] = {}
    problems: list[str] = []
    for reference in wanted:
        try:
            samples[reference] = context.client.get(container_path(reference, "stats"), {"stream": "0", "one-shot": True})
        except ApiError as error:
            if named:
                samples[reference] = None
                problems.append(f"Error response from daemon: {error.message}")
            # else: the container was removed since it was listed
    if problems and is_first:
        raise CliError("\n".join(problems))
    return samples


STATS = Command(
    "stats [OPTIONS] [CONTAINER...]",
    "Display a live stream of container(s) resource usage statistics",
    stats,
    options=(
        Option("all", BOOL, "Show all containers (default shows just running)", short="a"),
        Option("format", "string", FORMAT_HELP),
        Option("no-stream", BOOL, "Disable streaming stats and only pull the first result"),
        Option("no-trunc", BOOL, "Do not truncate output"),
    ),
    aliases="container stats, stats",
)
