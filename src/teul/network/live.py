"""Links of a container that runs already: made, configured and taken away from outside. Everything here blocks and raises `OSError`."""

from __future__ import annotations

import errno
import os
from collections.abc import Collection
from functools import partial

from teul.linux import netns
from teul.linux.netlink import links, messages
from teul.linux.netlink.links import Plan
from teul.linux.netlink.socket import Netlink

Routes = dict[int, tuple[str, str]]
"""By IP version: the name of the link inside, and the gateway's address."""


def connect(plan: Plan, pidfd: int, routes: Routes) -> None:
    """Give the container whose first process is `pidfd` one more link, and these ways out; all of it or nothing."""
    netns_fd = netns.run_inside(pidfd, netns.open_own)
    try:
        with Netlink() as host:
            links.create_veth(plan, 0, host, netns_fd=netns_fd)
            try:
                netns.run_inside(netns_fd, partial(_configure, plan, host, routes))
            except BaseException:
                _delete(host, plan["host_name"])
                raise
    finally:
        os.close(netns_fd)


def disconnect(host_interface: str, pidfd: int, routes: Routes) -> None:
    """Take a link away, by the name of its end on the host, and have the container use these ways out. Idempotent."""
    with Netlink() as host:
        _delete(host, host_interface)
    try:
        netns.run_inside(pidfd, partial(links.set_default_routes, routes))
    except ProcessLookupError:
        pass  # the container has ended meanwhile


def let_back(host_interfaces: Collection[str]) -> None:
    """Let what containers send come back to them by these links, by the names of their ends on the host: to ports that they publish."""
    with Netlink() as host:
        for name in host_interfaces:
            host.execute(messages.set_hairpin(name=name), subject=name)


def _configure(plan: Plan, host: Netlink, routes: Routes) -> None:
    links.configure_inside([plan], host)
    links.set_default_routes(routes)


def _delete(host: Netlink, name: str) -> None:
    try:
        host.execute(messages.delete_link(name=name), subject=name)
    except OSError as error:
        if error.errno != errno.ENODEV:
            raise
