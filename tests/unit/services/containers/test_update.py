"""What an update changes, what it refuses with Docker's words, and what of it goes to the running cgroup."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from teul.errors import Conflict, InvalidParameter, NotImplementedHere
from teul.model.document import convert
from teul.model.host_config import HostConfig, Resources, RestartPolicy
from teul.services.containers.update import UpdateContainer, check_update, merge, plan_change
from teul.services.host import HostFacts, LimitSupport
from unit.services.containers.cases import HOST, V1_HOST

MIB = 1 << 20


def check(host: HostFacts = HOST, policy: RestartPolicy | None = None, **body: Any) -> tuple[HostConfig, list[str]]:
    return check_update(UpdateContainer(resources=convert(Resources, body), restart_policy=policy or RestartPolicy()), host)


def wanted(**body: Any) -> HostConfig:
    return check(**body)[0]


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ({"Memory": MIB}, "Minimum memory limit allowed is 6MB"),
        ({"Memory": -1}, "Minimum memory limit allowed is 6MB"),
        ({"MemoryReservation": MIB}, "Minimum memory reservation allowed is 6MB"),
        ({"Memory": 9 * MIB, "MemorySwap": 8 * MIB}, "Minimum memoryswap limit should be larger than memory limit, see usage"),
        ({"NanoCpus": 5 * 10**9}, "range of CPUs is from 0.01 to 4.00, as there are only 4 CPUs available"),
        ({"NanoCpus": 10**9, "CpuQuota": 5000}, "Conflicting options: Nano CPUs and CPU Quota cannot both be set"),
        ({"CpuPeriod": 1}, "CPU cfs period can not be less than 1ms (i.e. 1000) or larger than 1s (i.e. 1000000)"),
        ({"CpusetCpus": "7"}, "Requested CPUs are not available - requested 7, available: 0-3"),
        ({"BlkioWeight": 5}, "Range of blkio weight is from 10 to 1000"),
        ({"CpuRealtimeRuntime": 5}, "kernel does not support CPU real-time scheduler"),
    ],
)
def test_a_request_is_judged_by_itself_first(body: dict[str, Any], message: str) -> None:
    with pytest.raises(InvalidParameter) as refused:
        check(**body)
    assert refused.value.message == message


def test_a_restart_policy_is_judged_as_for_a_new_container() -> None:
    with pytest.raises(InvalidParameter, match="unknown policy 'sometimes'"):
        check(policy=RestartPolicy(name="sometimes"))
    with pytest.raises(InvalidParameter, match="maximum retry count can only be used with 'on-failure'"):
        check(policy=RestartPolicy(name="always", maximum_retry_count=2))


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({"BlkioDeviceReadBps": [{"Path": "/dev/sda", "Rate": 5}]}, "BlkioDeviceReadBps"),
        ({"Ulimits": [{"Name": "nofile", "Soft": 1, "Hard": 1}]}, "Ulimits"),
        ({"CgroupParent": "/other"}, "CgroupParent"),
        ({"Devices": [{"PathOnHost": "/dev/fuse"}]}, "Devices"),
    ],
)
def test_what_only_a_new_container_can_be_given_is_refused(body: dict[str, Any], field: str) -> None:
    with pytest.raises(NotImplementedHere) as refused:
        check(**body)
    assert refused.value.message == f"{field} of an existing container cannot be updated"


def test_swappiness_is_refused_even_when_it_is_zero() -> None:
    with pytest.raises(NotImplementedHere, match="MemorySwappiness of an existing container"):
        check(V1_HOST, MemorySwappiness=0)


def test_the_whole_document_of_a_client_may_be_sent_when_it_says_nothing() -> None:
    body: dict[str, Any] = {
        "Devices": [],
        "Ulimits": None,
        "CgroupParent": "",
        "OomKillDisable": False,
        "KernelMemory": 0,
        "MemorySwappiness": None,
    }
    config, warnings = check(**body, CpuShares=512)
    assert (config.cpu_shares, warnings) == (512, [])


def test_a_limit_that_the_host_lacks_is_left_out_with_a_warning() -> None:
    host = replace(HOST, limits=LimitSupport(blkio_weight=False))
    config, warnings = check(host, BlkioWeight=300)
    assert config.blkio_weight == 0
    assert warnings == ["Your kernel does not support Block I/O weight or the cgroup is not mounted. Weight discarded."]
    assert plan_change(merge(HostConfig(), config), config) == {}


def test_only_what_is_said_is_changed() -> None:
    present = HostConfig(memory=64 * MIB, memory_swap=128 * MIB, cpu_shares=10, pids_limit=5, privileged=True)
    merged = merge(present, wanted(CpuShares=20))
    assert (merged.memory, merged.memory_swap, merged.cpu_shares, merged.pids_limit, merged.privileged) == (
        64 * MIB,
        128 * MIB,
        20,
        5,
        True,
    )
    assert present.cpu_shares == 10, "the record is not touched before all is judged"


@pytest.mark.parametrize(
    ("present", "body", "message"),
    [
        ({"cpu_period": 1000}, {"NanoCpus": 10**9}, "Conflicting options: Nano CPUs cannot be updated as CPU Period has already been set"),
        ({"cpu_quota": 5000}, {"NanoCpus": 10**9}, "Conflicting options: Nano CPUs cannot be updated as CPU Quota has already been set"),
        ({"nano_cpus": 10**9}, {"CpuPeriod": 5000}, "Conflicting options: CPU Period cannot be updated as NanoCPUs has already been set"),
        ({"nano_cpus": 10**9}, {"CpuQuota": 5000}, "Conflicting options: CPU Quota cannot be updated as NanoCPUs has already been set"),
        *(
            (
                {"memory_swap": swap},
                {"Memory": 256 * MIB},
                "Memory limit should be smaller than already set memoryswap limit, update the memoryswap at the same time",
            )
            for swap in (0, 128 * MIB, -1)
        ),
    ],
)
def test_what_contradicts_the_record_is_a_conflict(present: dict[str, Any], body: dict[str, Any], message: str) -> None:
    with pytest.raises(Conflict) as refused:
        merge(HostConfig(**present), wanted(**body))
    assert refused.value.message == message


def test_a_restart_policy_does_not_go_with_auto_remove() -> None:
    present = HostConfig(auto_remove=True)
    config, _ = check(policy=RestartPolicy(name="always"))
    with pytest.raises(Conflict, match="Restart policy cannot be updated because AutoRemove is enabled for the container"):
        merge(present, config)
    off, _ = check(policy=RestartPolicy(name="no"))
    assert merge(present, off).restart_policy.name == "no"


@pytest.mark.parametrize(
    ("present", "body", "resources"),
    [
        ({}, {}, {}),
        ({"memory_swap": 128 * MIB}, {"Memory": 64 * MIB}, {"memory": {"limit": 64 * MIB, "swap": 128 * MIB}}),
        # v2 counts swap by itself: the memory limit must be known to set it.
        ({"memory": 64 * MIB}, {"MemorySwap": 128 * MIB}, {"memory": {"limit": 64 * MIB, "swap": 128 * MIB}}),
        ({"memory": 64 * MIB}, {"MemorySwap": -1}, {"memory": {"limit": 64 * MIB, "swap": -1}}),
        ({"memory": 64 * MIB}, {"MemoryReservation": 32 * MIB}, {"memory": {"reservation": 32 * MIB}}),
        ({}, {"NanoCpus": 5 * 10**8}, {"cpu": {"period": 100_000, "quota": 50_000}}),
        # and quota and period stand in one file.
        ({"cpu_period": 50_000}, {"CpuQuota": 25_000}, {"cpu": {"period": 50_000, "quota": 25_000}}),
        ({"cpu_quota": 25_000}, {"CpuQuota": -1}, {"cpu": {"quota": -1}}),
        ({"nano_cpus": 10**9}, {"CpuShares": 100}, {"cpu": {"shares": 100}}),
        ({"cpuset_mems": "0"}, {"CpusetCpus": "0-1"}, {"cpu": {"cpus": "0-1"}}),
        ({"pids_limit": 5}, {"PidsLimit": 9}, {"pids": {"limit": 9}}),
        ({"pids_limit": 5}, {"PidsLimit": 0}, {"pids": {"limit": -1}}),
        ({"pids_limit": 5}, {"PidsLimit": -3}, {"pids": {"limit": -1}}),
        ({}, {"BlkioWeight": 300}, {"blockIO": {"weight": 300}}),
    ],
)
def test_what_goes_to_the_running_cgroup(present: dict[str, Any], body: dict[str, Any], resources: dict[str, Any]) -> None:
    config = wanted(**body)
    assert plan_change(merge(HostConfig(**present), config), config) == resources
