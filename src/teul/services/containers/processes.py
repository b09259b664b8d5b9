"""`docker top`: what ps says about the processes of a container."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from teul.aio import run_blocking
from teul.errors import InvalidParameter, System

Listing = tuple[list[str], list[list[str]]]  # titles, rows


async def list_processes(ps_args: str, find_pids: Callable[[], list[int]]) -> Listing:
    """Run the host's ps with `ps_args` and keep the rows of the pids that `find_pids`, which may block, finds before it and after it.

    Raises InvalidParameter, System, and what `find_pids` raises.

    Source: moby daemon/top_unix.go, which says the first line of what ps complains of.
    """
    arguments = ps_args.split() or ["-ef"]
    # docker: a custom format must still show the pid, by which the rows are told apart.
    for argument in arguments:
        if any(sign in argument for sign in "\n\0"):
            raise InvalidParameter("ps: invalid argument")
    pids = await run_blocking(find_pids)
    try:
        process = await asyncio.create_subprocess_exec(
            "ps", *arguments, stdin=asyncio.subprocess.DEVNULL, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE
        )
    except FileNotFoundError as error:
        raise System("ps is not installed on this host", hint="install the package procps") from error
    output, complaint = await process.communicate()
    if process.returncode:
        first = complaint.decode(errors="replace").strip().partition("\n")[0]
        raise InvalidParameter(first or f"ps: exit status {process.returncode}")
    # security: a pid that is not the container's any more may be another process's by now, and ps have shown that one.
    left = set(await run_blocking(find_pids))
    return parse_ps(output.decode(errors="replace"), [pid for pid in pids if pid in left])


def parse_ps(output: str, pids: list[int]) -> Listing:
    """Titles, and the rows whose PID column is in `pids`; the last column keeps its spaces. Raises InvalidParameter."""
    lines = output.splitlines()
    titles = lines[0].split() if lines else []
    if "PID" not in titles:
        raise InvalidParameter("Couldn't find PID field in ps output")
    column = titles.index("PID")
    wanted = {str(pid) for pid in pids}
    rows: list[list[str]] = []
    for line in lines[1:]:
        fields = line.split(maxsplit=len(titles) - 1)
        if len(fields) > column and fields[column] in wanted:
            rows.append(fields)
    return titles, rows
