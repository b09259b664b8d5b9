"""Reading the cgroup layout out of mountinfo."""

from __future__ import annotations

from teul.linux.cgroups.layout import Layout, assemble, detect, parse_mountinfo

HYBRID = """\
31 23 0:28 / /sys/fs/cgroup rw,relatime - tmpfs tmpfs rw,mode=755
32 31 0:29 / /sys/fs/cgroup/cpu,cpuacct rw,relatime shared:9 - cgroup cgroup rw,cpu,cpuacct
35 31 0:32 / /sys/fs/cgroup/memory rw,relatime - cgroup cgroup rw,memory
40 31 0:37 / /sys/fs/cgroup/systemd rw,relatime - cgroup cgroup rw,xattr,name=systemd
41 31 0:38 / /sys/fs/cgroup/unified rw,relatime - cgroup2 cgroup2 rw,nsdelegate
"""


def test_a_hybrid_host_has_both() -> None:
    layout = assemble(parse_mountinfo(HYBRID), frozenset({"hugetlb"}))
    assert layout.mode == "hybrid"
    assert layout.v1 == {
        "cpu": "/sys/fs/cgroup/cpu,cpuacct",
        "cpuacct": "/sys/fs/cgroup/cpu,cpuacct",
        "memory": "/sys/fs/cgroup/memory",
    }
    assert layout.unified == "/sys/fs/cgroup/unified"
    assert layout.unified_controllers == {"hugetlb"}


def test_hierarchies_are_listed_once_and_with_the_named_ones() -> None:
    """Controllers mounted together share a directory; name=systemd has none and needs one all the same."""
    layout = assemble(parse_mountinfo(HYBRID), frozenset())
    assert layout.hierarchies == ("/sys/fs/cgroup/cpu,cpuacct", "/sys/fs/cgroup/memory", "/sys/fs/cgroup/systemd")


def test_a_hierarchy_mounted_twice_counts_once() -> None:
    again = HYBRID + "50 23 0:32 / /mnt/memory rw - cgroup cgroup rw,memory\n"
    assert assemble(parse_mountinfo(again), frozenset()).v1["memory"] == "/sys/fs/cgroup/memory"


def test_only_v2_is_v2() -> None:
    layout = assemble(parse_mountinfo("30 23 0:26 / /sys/fs/cgroup rw - cgroup2 cgroup2 rw\n"), frozenset({"cpu", "memory"}))
    assert (layout.mode, layout.hierarchies, layout.unified) == ("v2", (), "/sys/fs/cgroup")


def test_only_v1_is_v1_and_its_unified_controllers_are_none() -> None:
    layout = assemble(parse_mountinfo("\n".join(HYBRID.splitlines()[:3])), frozenset({"cpu"}))
    assert (layout.mode, layout.unified, layout.unified_controllers) == ("v1", None, frozenset())


def test_no_cgroup_mount_is_none() -> None:
    assert assemble(parse_mountinfo(HYBRID.splitlines()[0]), frozenset()).mode == "none"


def test_mount_points_are_unescaped() -> None:
    (mount,) = parse_mountinfo(r"9 1 0:9 / /my\040cgroups rw - cgroup2 none rw")
    assert mount.path == "/my cgroups"


def test_layouts_are_values() -> None:
    one, two = (Layout({"cpu": "/c"}, ("/c",), None, frozenset()) for _ in range(2))
    assert one == two
    assert hash(one) == hash(two)
    assert one != Layout({}, (), "/c", frozenset())


def test_this_host_can_be_read() -> None:
    layout = detect()
    assert set(layout.v1.values()) <= set(layout.hierarchies)
    assert (layout.mode == "v2") == (layout.unified is not None and not layout.hierarchies)
