"""Plans for every layout: what is made, written and joined, without touching a file."""

from __future__ import annotations

import errno
import json
from typing import Any

import pytest

from teul.linux.cgroups import Layout, plan
from teul.linux.cgroups.v2 import cpu_weight, io_weight, swap_limit

NAMES = ("cpu", "cpuset", "memory", "devices", "freezer", "blkio", "pids", "hugetlb", "net_cls", "net_prio", "rdma")
MOUNTS = {name: f"/cg/{name}" for name in NAMES}
V1 = Layout(MOUNTS, (*MOUNTS.values(), "/cg/systemd"), None, frozenset())
HYBRID = Layout(
    {name: mount for name, mount in MOUNTS.items() if name != "hugetlb"},
    tuple(mount for name, mount in MOUNTS.items() if name != "hugetlb"),
    "/cg/unified",
    frozenset({"hugetlb"}),
)
V2 = Layout({}, (), "/cg", frozenset({"cpu", "cpuset", "io", "memory", "pids", "hugetlb", "rdma"}))
BARE_V2 = Layout({}, (), "/cg", frozenset())
EVERY = [V1, HYBRID, V2]


def written(layout: Layout, resources: dict[str, Any]) -> list[tuple[str, str]]:
    """The writes, as (file below the mount points without the cgroup's path, value)."""
    return [(file.replace("/teul/x", "").removeprefix("/cg/"), value) for file, value, _ in plan(layout, "/teul/x", resources)["writes"]]


@pytest.mark.parametrize("layout", EVERY, ids=lambda layout: layout.mode)
def test_nothing_asked_is_nothing_written(layout: Layout) -> None:
    made = plan(layout, "/teul/x", {"memory": {"limit": 0}, "cpu": {}, "pids": None, "blockIO": {"weight": 0}})
    assert made["writes"] == []
    assert made["device_rules"] is None
    assert made["required_controllers"] == []


def test_v1_makes_and_joins_a_directory_in_every_hierarchy() -> None:
    made = plan(V1, "/teul/x")
    assert made["directories"] == [f"{mount}/teul/x" for mount in V1.hierarchies]
    assert made["join"] == [f"{mount}/teul/x/tasks" for mount in V1.hierarchies]
    assert made["unified_directory"] is None
    assert made["cpuset_directory"] == "/cg/cpuset/teul/x"
    assert made["freezer_file"] == "/cg/freezer/teul/x/freezer.state"
    assert made["oom_file"] == "/cg/memory/teul/x/memory.oom_control"


def test_hybrid_has_the_unified_directory_last_and_enables_only_what_is_needed() -> None:
    made = plan(HYBRID, "/teul/x", {"hugepageLimits": [{"pageSize": "2MB", "limit": 4096}]})
    assert made["directories"][-1] == made["unified_directory"] == "/cg/unified/teul/x"
    assert made["controllers"] == made["required_controllers"] == ["hugetlb"]
    assert plan(HYBRID, "/teul/x")["controllers"] == []


def test_v2_makes_one_directory_and_enables_all_controllers() -> None:
    made = plan(V2, "/teul/x", {"pids": {"limit": 5}})
    assert made["directories"] == ["/cg/teul/x"]
    assert made["join"] == []
    assert made["controllers"] == sorted(V2.unified_controllers)
    assert made["required_controllers"] == ["pids"]
    assert made["oom_file"] == "/cg/teul/x/memory.events"


@pytest.mark.parametrize("layout", EVERY, ids=lambda layout: layout.mode)
def test_a_plan_survives_json(layout: Layout) -> None:
    resources = {"memory": {"limit": 1 << 26, "swap": 1 << 27}, "devices": [{"allow": False}, {"allow": True, "type": "c", "major": 1}]}
    made = plan(layout, "/teul/x", resources)
    again = json.loads(json.dumps(made))
    again["device_rules"] = again["device_rules"] and [tuple(rule) for rule in again["device_rules"]]
    assert again == made


@pytest.mark.parametrize("path", ["", "teul/x", "/", "/teul/../x", "/teul//x", "/teul/x/", "/./x"])
def test_a_path_that_could_leave_the_hierarchy_is_refused(path: str) -> None:
    with pytest.raises(OSError, match="invalid cgroup path"):
        plan(V1, path)


def test_v1_memory() -> None:
    section = {"limit": 100, "swap": 200, "reservation": 50, "swappiness": 0, "disableOOMKiller": True, "kernel": 7}
    assert written(V1, {"memory": section}) == [
        ("memory/memory.limit_in_bytes", "100"),
        ("memory/memory.memsw.limit_in_bytes", "200"),
        ("memory/memory.soft_limit_in_bytes", "50"),
        ("memory/memory.oom_control", "1"),
        ("memory/memory.swappiness", "0"),
    ]


def test_v2_memory() -> None:
    section = {"limit": 100, "swap": 250, "reservation": 50, "swappiness": 0, "disableOOMKiller": True, "kernel": 7}
    assert written(V2, {"memory": section}) == [("memory.swap.max", "150"), ("memory.max", "100"), ("memory.low", "50")]


@pytest.mark.parametrize(("layout", "file"), [(V1, "/cg/memory/teul/x/memory.memsw.limit_in_bytes"), (V2, "/cg/teul/x/memory.swap.max")])
def test_swap_is_passed_over_where_it_is_not_accounted(layout: Layout, file: str) -> None:
    made = plan(layout, "/teul/x", {"memory": {"limit": 100, "swap": 200}})
    assert [if_absent for name, _, if_absent in made["writes"] if name == file] == ["skip"]


@pytest.mark.parametrize(
    ("swap", "limit", "expected"),
    [(0, 100, None), (0, -1, -1), (-1, 100, -1), (200, -1, 200), (100, 100, 0), (250, 100, 150)],
)
def test_swap_of_v2_is_the_difference(swap: int, limit: int, expected: int | None) -> None:
    assert swap_limit(swap, limit) == expected


@pytest.mark.parametrize(
    ("swap", "limit", "text"),
    [
        (100, 0, "unable to set swap limit without memory limit"),
        (100, -2, "invalid memory value: -2"),
        (50, 100, r"memory\+swap limit should be >= memory limit"),
    ],
)
def test_swap_that_contradicts_memory_is_refused(swap: int, limit: int, text: str) -> None:
    with pytest.raises(OSError, match=text):
        swap_limit(swap, limit)


def test_swappiness_beyond_its_range_is_refused() -> None:
    with pytest.raises(OSError, match=r"invalid memory swappiness value: 101 \(valid range is 0-100\)"):
        plan(V1, "/teul/x", {"memory": {"swappiness": 101}})


CPU = {
    "shares": 512,
    "quota": 50000,
    "period": 25000,
    "burst": 0,
    "realtimePeriod": 9,
    "realtimeRuntime": 8,
    "idle": 0,
    "cpus": "0-1",
    "mems": "0",
}


def test_v1_cpu() -> None:
    assert written(V1, {"cpu": CPU}) == [
        ("cpuset/cpuset.cpus", "0-1"),
        ("cpuset/cpuset.mems", "0"),
        ("cpu/cpu.idle", "0"),
        ("cpu/cpu.shares", "512"),
        ("cpu/cpu.cfs_period_us", "25000"),
        ("cpu/cpu.cfs_quota_us", "50000"),
        ("cpu/cpu.rt_period_us", "9"),
        ("cpu/cpu.rt_runtime_us", "8"),
        ("cpu/cpu.cfs_burst_us", "0"),
    ]


def test_v2_cpu() -> None:
    assert written(V2, {"cpu": CPU}) == [
        ("cpuset.cpus", "0-1"),
        ("cpuset.mems", "0"),
        ("cpu.idle", "0"),
        ("cpu.weight", "59"),
        ("cpu.max", "50000 25000"),
        ("cpu.max.burst", "0"),
    ]


@pytest.mark.parametrize(
    ("section", "value"), [({"quota": 50000}, "50000 100000"), ({"quota": -1}, "max 100000"), ({"period": 2000}, "max 2000")]
)
def test_v2_cpu_max_has_both_numbers(section: dict[str, int], value: str) -> None:
    assert written(V2, {"cpu": section}) == [("cpu.max", value)]


@pytest.mark.parametrize(
    ("shares", "weight"), [(1, 1), (2, 1), (3, 2), (102, 17), (512, 59), (1024, 100), (2048, 174), (262144, 10000), (1 << 40, 10000)]
)
def test_shares_become_weights(shares: int, weight: int) -> None:
    assert cpu_weight(shares) == weight


def test_weights_grow_with_shares() -> None:
    weights = [cpu_weight(shares) for shares in range(2, 1 << 18, 511)]
    assert weights == sorted(weights)


@pytest.mark.parametrize(("shares", "text"), [(1, "minimum allowed cpu-shares is 2"), (1 << 19, "maximum allowed cpu-shares is 262144")])
def test_v1_shares_that_the_kernel_would_change_are_refused(shares: int, text: str) -> None:
    with pytest.raises(OSError, match=text):
        plan(V1, "/teul/x", {"cpu": {"shares": shares}})


@pytest.mark.parametrize(("limit", "value"), [(7, "7"), (-1, "max")])
@pytest.mark.parametrize("layout", EVERY, ids=lambda layout: layout.mode)
def test_pids(layout: Layout, limit: int, value: str) -> None:
    ((file, written_value),) = written(layout, {"pids": {"limit": limit}})
    assert (file.rpartition("/")[2], written_value) == ("pids.max", value)


BLOCK_IO = {
    "weight": 100,
    "weightDevice": [{"major": 8, "minor": 0, "weight": 1000}, {"major": 8, "minor": 16, "leafWeight": 9}],
    "throttleReadBpsDevice": [{"major": 8, "minor": 0, "rate": 1}],
    "throttleWriteBpsDevice": [{"major": 8, "minor": 0, "rate": 2}],
    "throttleReadIOPSDevice": [{"major": 8, "minor": 0, "rate": 3}],
    "throttleWriteIOPSDevice": [{"major": 8, "minor": 0, "rate": 0}],
}


def test_v1_block_io() -> None:
    assert written(V1, {"blockIO": BLOCK_IO}) == [
        ("blkio/blkio.bfq.weight", "100"),
        ("blkio/blkio.bfq.weight_device", "8:0 1000"),
        ("blkio/blkio.throttle.read_bps_device", "8:0 1"),
        ("blkio/blkio.throttle.write_bps_device", "8:0 2"),
        ("blkio/blkio.throttle.read_iops_device", "8:0 3"),
        ("blkio/blkio.throttle.write_iops_device", "8:0 0"),
    ]


def test_v2_block_io_falls_back_from_bfq_to_io_weight() -> None:
    made = plan(V2, "/teul/x", {"blockIO": BLOCK_IO})
    assert made["required_controllers"] == ["io"]
    assert made["writes"] == [
        ["/cg/teul/x/io.bfq.weight", "100", ["/cg/teul/x/io.weight", "default 910"]],
        ["/cg/teul/x/io.bfq.weight", "8:0 1000", ["/cg/teul/x/io.weight", "8:0 10000"]],
        ["/cg/teul/x/io.max", "8:0 rbps=1", "fail"],
        ["/cg/teul/x/io.max", "8:0 wbps=2", "fail"],
        ["/cg/teul/x/io.max", "8:0 riops=3", "fail"],
        ["/cg/teul/x/io.max", "8:0 wiops=max", "fail"],
    ]


def test_io_weights_span_their_range() -> None:
    assert (io_weight(10), io_weight(1000)) == (1, 10000)


@pytest.mark.parametrize(
    ("layout", "names"),
    [
        (V1, ["hugetlb/hugetlb.2MB.limit_in_bytes", "hugetlb/hugetlb.2MB.rsvd.limit_in_bytes"]),
        (HYBRID, ["unified/hugetlb.2MB.max", "unified/hugetlb.2MB.rsvd.max"]),
        (V2, ["hugetlb.2MB.max", "hugetlb.2MB.rsvd.max"]),
    ],
    ids=lambda value: getattr(value, "mode", ""),
)
def test_huge_pages_are_limited_where_their_controller_is(layout: Layout, names: list[str]) -> None:
    assert written(layout, {"hugepageLimits": [{"pageSize": "2MB", "limit": 0}]}) == [(name, "0") for name in names]


def test_the_rest_of_v1() -> None:
    resources = {
        "network": {"classID": 0x100001, "priorities": [{"name": "eth0", "priority": 5}]},
        "rdma": {"mlx5_1": {"hcaHandles": 3, "hcaObjects": 10}},
    }
    assert written(V1, resources) == [
        ("rdma/rdma.max", "mlx5_1 hca_handle=3 hca_object=10"),
        ("net_cls/net_cls.classid", "1048577"),
        ("net_prio/net_prio.ifpriomap", "eth0 5"),
    ]
    assert written(V2, resources) == [("rdma.max", "mlx5_1 hca_handle=3 hca_object=10")]


def test_unified_files_are_written_line_by_line() -> None:
    made = plan(V2, "/teul/x", {"unified": {"io.max": "8:0 rbps=1\n8:16 wbps=2", "cgroup.max.depth": "3"}})
    assert [(file, value) for file, value, _ in made["writes"]] == [
        ("/cg/teul/x/io.max", "8:0 rbps=1"),
        ("/cg/teul/x/io.max", "8:16 wbps=2"),
        ("/cg/teul/x/cgroup.max.depth", "3"),
    ]
    assert made["required_controllers"] == ["io"]


@pytest.mark.parametrize("name", ["../x/memory.max", "memory"])
def test_a_unified_file_is_a_plain_file_name(name: str) -> None:
    with pytest.raises(OSError, match="must be a file name") as caught:
        plan(V2, "/teul/x", {"unified": {name: "1"}})
    assert caught.value.errno == errno.EINVAL


@pytest.mark.parametrize(
    ("layout", "resources", "text"),
    [
        (BARE_V2, {"memory": {"limit": 1}}, "cannot set memory.max: this host has no `memory` cgroup controller"),
        (BARE_V2, {"cpu": {"cpus": "0"}}, "no `cpuset` cgroup controller"),
        (Layout({}, (), None, frozenset()), {"pids": {"limit": 1}}, "cannot set pids.max: this host has no `pids` cgroup controller"),
        (Layout({}, ("/cg/systemd",), None, frozenset()), {"devices": [{"allow": False}]}, "no `devices` cgroup controller"),
        (V1, {"unified": {"memory.high": "1"}}, "no `memory` cgroup controller"),
        (HYBRID, {"unified": {"memory.high": "1"}}, "no `memory` cgroup controller"),
    ],
)
def test_a_limit_that_nothing_can_hold_is_said_so(layout: Layout, resources: dict[str, Any], text: str) -> None:
    with pytest.raises(OSError, match=text) as caught:
        plan(layout, "/teul/x", resources)
    assert caught.value.errno == errno.ENOENT


DEVICES = [{"allow": False, "access": "rwm"}, {"allow": True, "type": "c", "major": 1, "minor": 3, "access": "rwm"}]


@pytest.mark.parametrize("layout", [V1, HYBRID], ids=lambda layout: layout.mode)
def test_devices_are_a_list_where_v1_has_them(layout: Layout) -> None:
    made = plan(layout, "/teul/x", {"devices": DEVICES})
    assert made["device_rules"] is None
    assert [write[:2] for write in made["writes"]] == [
        ["/cg/devices/teul/x/devices.deny", "a"],
        ["/cg/devices/teul/x/devices.allow", "c 1:3 rwm"],
    ]


def test_devices_are_a_program_on_v2() -> None:
    made = plan(V2, "/teul/x", {"devices": DEVICES})
    assert made["writes"] == []
    assert made["device_rules"] == [(False, "a", None, None, "rwm"), (True, "c", 1, 3, "rwm")]
    assert plan(V2, "/teul/x", {"devices": [*DEVICES, {"allow": True}]})["device_rules"] is None
