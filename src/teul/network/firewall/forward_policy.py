"""Living beside a firewall whose FORWARD policy is DROP: dockerd's, above all.

An accept in the engine's table does not overrule a drop in another table, so containers would have no way out on a host where Docker is
installed, too. Where the policy of iptables' FORWARD chain is DROP, or that of ip6tables', a chain of the engine's own is hooked at the end
of FORWARD. There it changes what happens to packets that no rule of anybody's has judged, and nothing else: every rule that an
administrator, ufw or dockerd wrote comes first. Return traffic is let in, and what address translation has sent to a published port; other
connections from elsewhere are not. What goes to other bridges is left to the policy: dockerd's networks are closed to strangers by nothing
else. The chain is removed when the engine closes.

Only iptables' own programs write these rules: a rule written by nft may be one that iptables (and so dockerd) cannot read back.
"""

from __future__ import annotations

import errno
import logging
import re
import shutil
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass

from teul.network.bridge import list_other_bridges
from teul.network.firewall import scripts

log = logging.getLogger(__name__)

_PATH = "/usr/sbin:/sbin:/usr/bin:/bin:/usr/local/sbin:/usr/local/bin"
_ENVIRONMENT = {"PATH": _PATH, "LC_ALL": "C"}
_LOCK_SECONDS = "5"
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,27}")
_DOCKER_BRIDGES = ("docker+", "br-+")  # as dockerd names the bridges that it may yet make


@dataclass(frozen=True, slots=True)
class Backend:
    """One of the places where iptables rules may live (nft or legacy, IPv4 or IPv6); `program` writes them there."""

    name: str
    program: str


@dataclass(frozen=True, slots=True)
class LegacyChain:
    """What iptables-legacy has in its FORWARD chain: nftables does not list it, but packets pass it all the same."""

    name: str
    version: int
    policy_drops: bool
    has_own_chain: bool
    rules: tuple[str, ...]


# The programs' name, nftables' family, and the kernel's list of legacy tables.
_VERSIONS = (("iptables", "ip", "/proc/net/ip_tables_names"), ("ip6tables", "ip6", "/proc/net/ip6_tables_names"))


def render_rules(chain: str, bridges: Sequence[str], others: Sequence[str]) -> str:
    """Input of iptables-restore that makes `chain` (and nothing else) anew; `others` are the host's bridges that are not the engine's.

    Raises ValueError if `chain` or one of `bridges` is no name for iptables. One of `others` that is none is left out.
    """
    for name in (chain, *bridges):
        if not _NAME.fullmatch(name):
            raise ValueError(f"not a name for iptables: {name!r}")
    lines = ["*filter", f":{chain} - [0:0]"]
    foreign = [name for name in others if _NAME.fullmatch(name)]
    lines += [f"-A {chain} -o {pattern} -j RETURN" for pattern in (*_DOCKER_BRIDGES, *foreign)]
    for bridge in bridges:
        lines += [
            f"-A {chain} -i {bridge} -j ACCEPT",
            f"-A {chain} -o {bridge} -m conntrack --ctstate RELATED,ESTABLISHED,DNAT -j ACCEPT",
        ]
    return "\n".join([*lines, "COMMIT", ""])


def ensure_forwarding(chain: str, bridges: Sequence[str]) -> bool:
    """Hook the chain where the policy is DROP; returns whether it was necessary anywhere. Idempotent, blocks. Raises `OSError`."""
    dropping = [backend for backend in _backends() if _drops(backend)]
    if not dropping:
        return False
    rules = render_rules(chain, bridges, list_other_bridges(bridges))
    for backend in dropping:
        if not _is_hooked(backend, chain):
            log.info("%s: what is forwarded is dropped; letting the containers' packets pass in chain %s", backend.name, chain)
        _run(f"{backend.program}-restore", "-w", _LOCK_SECONDS, "--noflush", script=rules)
        if not _is_hooked(backend, chain):
            _run(backend.program, "-w", _LOCK_SECONDS, "-A", "FORWARD", "-j", chain)
    return True


def list_legacy(chain: str) -> list[LegacyChain]:
    """The FORWARD chains of iptables-legacy and ip6tables-legacy, as far as there are any; `chain` is the engine's own. Blocks."""
    found: list[LegacyChain] = []
    for name, family, legacy_tables in _VERSIONS:
        program = _which(f"{name}-legacy")
        if program is not None and "filter" in _names_in(legacy_tables):
            lines = (_try(program, "-w", _LOCK_SECONDS, "-S", "FORWARD") or "").splitlines()
            rules = tuple(line for line in lines if line.startswith("-A "))
            hook = f"-A FORWARD -j {chain}"
            found.append(LegacyChain(name, 4 if family == "ip" else 6, "-P FORWARD DROP" in lines, hook in rules, rules))
    return found


def remove_forwarding(chain: str) -> None:
    """Take the chain out again, wherever it is. Blocks. Raises `OSError`."""
    for backend in _backends():
        while _is_hooked(backend, chain):
            _run(backend.program, "-w", _LOCK_SECONDS, "-D", "FORWARD", "-j", chain)
        if _try(backend.program, "-w", _LOCK_SECONDS, "-S", chain) is not None:
            _run(backend.program, "-w", _LOCK_SECONDS, "-F", chain)
            _run(backend.program, "-w", _LOCK_SECONDS, "-X", chain)


def _backends() -> list[Backend]:
    """The backends that are in use here: asking iptables about a table that does not exist would make the table."""
    found: list[Backend] = []
    for name, family, legacy_tables in _VERSIONS:
        if _nft_forward_chain(family) is not None:
            program = _which(f"{name}-nft") or _which(name)
            if program is not None:
                found.append(Backend(f"{name}, nft", program))
        program = _which(f"{name}-legacy")
        if program is not None and "filter" in _names_in(legacy_tables):
            found.append(Backend(f"{name}, legacy", program))
    return found


def _drops(backend: Backend) -> bool:
    return "-P FORWARD DROP" in (_try(backend.program, "-w", _LOCK_SECONDS, "-S", "FORWARD") or "").splitlines()


def _is_hooked(backend: Backend, chain: str) -> bool:
    return _try(backend.program, "-w", _LOCK_SECONDS, "-C", "FORWARD", "-j", chain) is not None


def _nft_forward_chain(family: str) -> str | None:
    try:
        return scripts.run(f"list chain {family} filter FORWARD\n")
    except OSError as error:
        if error.errno == errno.ENOENT:
            return None
        raise


def _names_in(path: str) -> list[str]:
    try:
        with open(path, encoding="ascii") as file:
            return file.read().split()
    except FileNotFoundError:
        return []


def _which(program: str) -> str | None:
    return shutil.which(program, path=_PATH)


def _try(*arguments: str) -> str | None:
    """What the program prints, or None if it fails."""
    done = subprocess.run(arguments, capture_output=True, text=True, env=_ENVIRONMENT, stdin=subprocess.DEVNULL, check=False)
    return done.stdout if done.returncode == 0 else None


def _run(*arguments: str, script: str = "") -> None:
    done = subprocess.run(arguments, capture_output=True, text=True, env=_ENVIRONMENT, input=script, check=False)
    if done.returncode != 0:
        raise OSError(errno.EIO, f"{' '.join(arguments)}: {done.stderr.strip() or f'exit status {done.returncode}'}")
