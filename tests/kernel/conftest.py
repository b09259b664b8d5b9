"""The kernel tier leaves nothing on the host."""

from __future__ import annotations

from kernel.runtime.bare_containers import bench, busybox_root, cgroup_parent, seccomp_filter, shared_supervisor
from support.leaks import nothing_left_on_the_host

__all__ = ["bench", "busybox_root", "cgroup_parent", "nothing_left_on_the_host", "seccomp_filter", "shared_supervisor"]
