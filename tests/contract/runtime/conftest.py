"""Processes under a keeper, as in the kernel tier."""

from __future__ import annotations

from kernel.runtime.bare_containers import bench, busybox_root, cgroup_parent, seccomp_filter, shared_supervisor

__all__ = ["bench", "busybox_root", "cgroup_parent", "seccomp_filter", "shared_supervisor"]
