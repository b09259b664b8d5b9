"""What a user is told who does not reach an engine: one sentence about what is possible here. Loaded only then."""

from __future__ import annotations

import os
import stat

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Collection

    from teul.cli.endpoint import Endpoint

ROOT_ONLY = 'only root can start an engine, which does not run without root yet: run "sudo teul version", or become root'


def advise(endpoint: Endpoint, *, refused: bool, user_id: int) -> str:
    """The next thing to try when `endpoint` could not be reached; `refused` when nobody listens there. Empty where there is no advice."""
    if endpoint.chosen_by:
        return f"{endpoint.chosen_by} leads there; without it teul speaks to its own engine"
    if not endpoint.own or user_id == 0:
        return ""
    return ROOT_ONLY if refused else _advise_about_group(endpoint.address.path, user_id)


def _advise_about_group(path: str, user_id: int) -> str:
    from grp import getgrgid
    from pwd import getpwuid

    try:
        status = os.stat(path)
        group = getgrgid(status.st_gid)
        user = getpwuid(user_id)
    except (OSError, KeyError):
        return "use sudo"
    members = {*group.gr_mem, *([user.pw_name] if user.pw_gid == group.gr_gid else [])}
    return membership_advice(user.pw_name, group.gr_name, status, members=members)


def membership_advice(user: str, group: str, status: os.stat_result, *, members: Collection[str]) -> str:
    """How `user`, whose session may not use the socket of `status`, gets to. `members` are those of its `group`, as the database has it."""
    if status.st_gid == 0 or not status.st_mode & stat.S_IWGRP:
        return "the socket is root's alone: use sudo, or make a group docker, which the next engine gives the socket to"
    if user in members:
        return f'{user} is in the group "{group}", but this session began before: log in again, or run "newgrp {group}"'
    return f'{user} is not in the group "{group}": run "sudo usermod -aG {group} {user}" and log in again, or use sudo'
