"""Control groups, v1, v2 and both at once ("hybrid"): where they are mounted, a plan of limits as data, and its execution.

`plan` is pure: it turns OCI `linux.resources` into directories and writes that can be printed, compared and sent as JSON.
`create` carries a plan out, `join` puts the calling process in, and the other functions act on the cgroup by the plan alone, so they need
no `Layout` and work for any process that got the plan. Each controller is driven in the dialect of the hierarchy that holds it: on a
hybrid host memory may be limited the v1 way and huge pages the v2 way.

What may have to wait for the kernel is there twice: `kill`, `remove` and `oom_kills` sleep and try again until it is done; `killing`,
`removing` and `counting_oom_kills` leave the waiting to a caller that has an event loop.

A process of the cgroup must be in all the cgroup's directories. `join` (once, before the process starts threads or other processes) enters
the v1 directories; CLONE_INTO_CGROUP with `plan["unified_directory"]` enters the v2 directory for nothing.
"""

from __future__ import annotations

from teul.linux.cgroups.directories import children, create, prune, remove, removing, update
from teul.linux.cgroups.layout import Layout, detect
from teul.linux.cgroups.members import (
    counting_oom_kills,
    freeze,
    is_frozen,
    join,
    kill,
    killing,
    leave,
    oom_kills,
    processes,
    thaw,
    thaw_tree,
)
from teul.linux.cgroups.planning import Plan, plan

__all__ = [
    "Layout",
    "Plan",
    "children",
    "counting_oom_kills",
    "create",
    "detect",
    "freeze",
    "is_frozen",
    "join",
    "kill",
    "killing",
    "leave",
    "oom_kills",
    "plan",
    "processes",
    "prune",
    "remove",
    "removing",
    "thaw",
    "thaw_tree",
    "update",
]
