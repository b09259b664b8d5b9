"""Links of a container that runs already: made, configured and taken away from outside. Everything here blocks and raises `OSError`."""

from __future__ import annotations

import contextlib
import errno
import os
from collections.abc import Collection
from functools import partial

from teul.linux import netns
from teul.linux.netlink import links, messages
from teul.linux.netlink.links import Plan
from teul.linux.netlink.socket import Netlink
from teul.model.container import ContainerEndpoint

Routes = dict[int, tuple[str, str]]
"""By IP version: the name of the link inside, and the gateway's address ("": the link itself leads out)."""


def connect(plan: Plan, pidfd: int) -> None:
    """Give the container whose first process is `pidfd` one more link, all of it or nothing. Its ways out stay as they are."""
    netns_fd = netns.run_inside(pidfd, netns.open_own)
    try:
        with Netlink() as host:
            links.create_link(plan, 0, host, netns_fd=netns_fd)
            try:
                netns.run_inside(netns_fd, partial(links.configure_inside, [plan], host))
            except BaseException:
                if "kind" in plan:
                    netns.run_inside(netns_fd, partial(_delete_child, plan))
                else:
                    _delete(host, plan["host_name"])
                raise
    finally:
        os.close(netns_fd)


def disconnect(endpoint: ContainerEndpoint, pidfd: int) -> None:
    """Take an endpoint's link away, by its end on the host if it has one. A way out by it goes, too. Idempotent."""
    if endpoint.host_interface:
        with Netlink() as host:
            _delete(host, endpoint.host_interface)
        return
    with contextlib.suppress(ProcessLookupError):  # the container has ended meanwhile
        netns.run_inside(pidfd, partial(links.delete_inside, endpoint.interface))


def lead_out(pidfd: int, routes: Routes) -> None:
    """Have the container use these ways out; those of a version that is not among them stay."""
    with contextlib.suppress(ProcessLookupError):
        netns.run_inside(pidfd, partial(links.set_default_routes, routes))


def let_back(host_interfaces: Collection[str]) -> None:
    """Let what containers send come back to them by these links, by the names of their ends on the host: to ports that they publish."""
    with Netlink() as host:
        for name in host_interfaces:
            host.execute(messages.set_hairpin(name=name), subject=name)


def _delete_child(plan: Plan) -> None:
    for name in (plan["container_name"], plan["host_name"]):
        links.delete_inside(name)


def _delete(host: Netlink, name: str) -> None:
    try:
        host.execute(messages.delete_link(name=name), subject=name)
    except OSError as error:
        if error.errno != errno.ENODEV:
            raise
