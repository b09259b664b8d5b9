"""What a container is told of those that it is linked to on the default bridge: environment, and lines of its hosts file. Pure.

docker: daemon/links/links.go (the environment), daemon/container_operations_unix.go (addLegacyLinks), libnetwork/etchosts (Update). On
networks of the user's, links are names that the resolver knows, and nothing of this.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from teul.model.container import Container, ContainerEndpoint
from teul.model.network import BRIDGE

# docker: what a build has added and what means nothing elsewhere.
_OWN_VARIABLES = ("HOME", "PATH")


@dataclass(frozen=True, slots=True)
class Link:
    """A container's link to another one, the child, under an alias (which may have slashes in it: the part after the last one counts)."""

    alias: str
    child: Container

    @property
    def name(self) -> str:
        """What the child is called by."""
        return self.alias.rpartition("/")[2]

    @property
    def endpoint(self) -> ContainerEndpoint | None:
        """What the child has of the default bridge; None while it does not run."""
        return self.child.endpoints.get(BRIDGE)


def link_environment(parent: str, links: Iterable[Link]) -> list[str]:
    """The variables that tell the container called `parent` of its children's addresses, ports and environment."""
    return [variable for link in links for variable in _environment_of(parent, link)]


def link_hosts(links: Iterable[Link]) -> list[tuple[str, str]]:
    """(address, names) of the children: alias, host name, and name where that is another one than the alias."""
    entries: list[tuple[str, str]] = []
    for link in links:
        names = [link.name, link.child.config.hostname, *([link.child.name] if link.name != link.child.name else [])]
        entries += [(address, " ".join(names)) for address in _addresses(link.endpoint)]
    return entries


def with_links(hosts: str, links: Sequence[Link]) -> str:
    """A hosts file of a container in which these links stand for what the children are called, and have, now; the other lines stay."""
    lines = hosts.splitlines(keepends=True)
    if lines and not lines[-1].endswith("\n"):
        lines[-1] += "\n"
    for link in links:
        found = [index for index, line in enumerate(lines) if _is_of(line, link.name)]
        place = found[0] if found else len(lines)
        fresh = [f"{address}\t{names}\n" for address, names in link_hosts([link])]
        lines = [*lines[:place], *fresh, *(line for line in lines[place:] if not _is_of(line, link.name))]
    return "".join(lines)


def without_link(hosts: str, name: str) -> str:
    """A hosts file of a container that has no link of this name any more."""
    return "".join(line for line in hosts.splitlines(keepends=True) if not _is_of(line, name))


def _is_of(line: str, name: str) -> bool:
    """Whether a line is of the link of this name: no other that the engine writes has a name followed by a blank, unless it has a dot."""
    return line.partition("\t")[2].startswith(f"{name} ")


def _addresses(endpoint: ContainerEndpoint | None) -> list[str]:
    return [address for address in (endpoint.ipv4, endpoint.ipv6) if address] if endpoint is not None else []


def _environment_of(parent: str, link: Link) -> list[str]:
    address = link.endpoint.ipv4 if link.endpoint is not None else ""
    prefix = link.name.upper().replace("-", "_")
    variables = []
    ports = sorted((_parse(port) for port in link.child.config.exposed_ports or ()), key=_tcp_first)
    if ports:
        first, protocol = ports[0]
        variables.append(f"{prefix}_PORT={protocol}://{address}:{first}")
    begin = end = 0
    for index, (port, protocol) in enumerate(ports):
        name = f"{prefix}_PORT_{port}_{protocol.upper()}"
        variables += [f"{name}={protocol}://{address}:{port}", f"{name}_ADDR={address}", f"{name}_PORT={port}", f"{name}_PROTO={protocol}"]
        if _number(port) == _number(ports[end][0]) + 1 and protocol == ports[begin][1]:
            end = index
            if index < len(ports) - 1:
                continue
        if end != begin:
            variables += _range(prefix, address, ports[begin], ports[end])
        begin = end = index
    variables.append(f"{prefix}_NAME=/{parent}/{link.alias}")
    for variable in link.child.config.env or ():
        name, equals, value = variable.partition("=")
        if equals and name not in _OWN_VARIABLES:
            variables.append(f"{prefix}_ENV_{name}={value}")
    return variables


def _range(prefix: str, address: str, first: tuple[str, str], last: tuple[str, str]) -> list[str]:
    """What is said, once more, of ports that follow one another."""
    name = f"{prefix}_PORT_{first[0]}_{first[1].upper()}"
    return [
        f"{name}_START={first[1]}://{address}:{first[0]}",
        f"{name}_PORT_START={first[0]}",
        f"{name}_END={last[1]}://{address}:{last[0]}",
        f"{name}_PORT_END={last[0]}",
    ]


def _parse(port: str) -> tuple[str, str]:
    number, _, protocol = port.partition("/")
    return number, protocol.lower() or "tcp"


def _number(port: str) -> int:
    return int(port) if port.isascii() and port.isdigit() else 0


def _tcp_first(port: tuple[str, str]) -> tuple[bool, str, int]:
    return port[1] != "tcp", port[1], _number(port[0])
