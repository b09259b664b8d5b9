"""What containers use is told, and what they may use can be changed while they run: as Docker's clients see it."""

from __future__ import annotations

import json
import os
import time
from pathlib import Path
from typing import Any

import docker

from support.docker_host import DockerHost
from support.engine import Engine
from support.needs import needs
from support.polling import eventually
from teul.linux import cgroups

pytestmark = [needs("root", "docker_cli", "busybox", "overlayfs")]

MIB = 1 << 20
_BUSY = "while :; do :; done"


def stats(engine: DockerHost, reference: str, query: str = "stream=false&one-shot=true") -> Any:
    with engine.api() as api:
        return api.expect(200, "GET", f"/containers/{reference}/stats?{query}").json()


def cgroup_file(engine: DockerHost, reference: str, v1: str, v2: str) -> str:
    """The text of a control file of the container's cgroup: v1's "controller:file", or v2's."""
    layout = cgroups.detect()
    controller, _, file = v1.partition(":")
    lines = Path(f"/proc/{engine.init_pid(reference)}/cgroup").read_text().splitlines()
    for line in lines:
        _, controllers, path = line.split(":", 2)
        if controller in layout.v1 and controller in controllers.split(","):
            return Path(f"{layout.v1[controller]}{path}/{file}").read_text().strip()
        if controller not in layout.v1 and controllers == "":
            return Path(f"{layout.unified}{path}/{v2}").read_text().strip()
    raise AssertionError(f"no {controller} in {lines}")


def run(engine: DockerHost, *arguments: str, command: str = "sleep 1000") -> str:
    return engine.must("run", "-d", *arguments, "busybox", "sh", "-c", command)


def test_one_sample_tells_what_is_used(engine: Engine) -> None:
    container = run(engine, "--name", "busy", "-m", "64m", "--pids-limit", "50", command=_BUSY)
    eventually(lambda: stats(engine, container)["cpu_stats"]["cpu_usage"]["total_usage"] > 0, "time has passed")
    document = stats(engine, container)
    assert (document["name"], document["id"]) == ("/busy", container)
    assert document["pids_stats"]["limit"] == 50
    assert document["memory_stats"]["limit"] == 64 * MIB
    assert 0 < document["memory_stats"]["usage"] <= 64 * MIB
    assert document["cpu_stats"]["online_cpus"] == os.cpu_count()
    assert document["preread"] == "0001-01-01T00:00:00Z"
    assert list(document["networks"]) == ["eth0"]


def test_two_samples_tell_the_share_of_the_processor(engine: Engine) -> None:
    """`stream=false` alone waits for the second one; the shares are those that were given."""
    container = run(engine, "--cpus", "0.3", command=_BUSY)
    document = stats(engine, container, "stream=false")
    used = document["cpu_stats"]["cpu_usage"]["total_usage"] - document["precpu_stats"]["cpu_usage"]["total_usage"]
    available = document["cpu_stats"]["system_cpu_usage"] - document["precpu_stats"]["system_cpu_usage"]
    assert document["preread"] < document["read"]
    assert 0.1 < used / available * document["cpu_stats"]["online_cpus"] < 0.5
    assert document["cpu_stats"]["throttling_data"]["throttled_periods"] > 0


def test_networks_are_those_of_the_containers_namespace(engine: Engine) -> None:
    first = run(engine, "--name", "first")
    shared = run(engine, "--network", "container:first")
    assert list(stats(engine, shared)["networks"]) == list(stats(engine, first)["networks"]) == ["eth0"]
    for mode in ("none", "host"):
        assert "networks" not in stats(engine, run(engine, "--network", mode))


def test_received_bytes_are_counted(engine: Engine) -> None:
    container = run(engine)
    gateway = engine.inspect(container)["NetworkSettings"]["Gateway"]
    engine.must("exec", container, "ping", "-c", "3", "-s", "1000", "-W", "2", gateway)
    counters = stats(engine, container)["networks"]["eth0"]
    assert counters["rx_bytes"] > 3000
    assert counters["tx_bytes"] > 3000
    assert counters["rx_packets"] >= 3


def test_a_container_that_does_not_run_uses_nothing(engine: Engine) -> None:
    container = engine.must("create", "--name", "idle", "busybox", "true")
    document = stats(engine, container, "stream=false")
    assert (document["name"], document["id"], document["read"]) == ("/idle", container, "0001-01-01T00:00:00Z")
    assert document["memory_stats"] == document["pids_stats"] == {}
    assert (
        engine.must("stats", "--no-stream", "--format", "{{.Name}} {{.CPUPerc}} {{.MemUsage}} {{.PIDs}}", "idle") == "idle 0.00% 0B / 0B 0"
    )


def test_a_paused_container_still_tells(engine: Engine) -> None:
    container = run(engine)
    engine.must("pause", container)
    assert stats(engine, container)["pids_stats"]["current"] >= 1
    engine.must("unpause", container)


def test_a_stream_goes_on_until_the_container_is_removed(docker_py: docker.DockerClient) -> None:
    """Running, ended, and gone: samples, zeros, the end."""
    container = docker_py.containers.run("busybox", ["sleep", "1000"], detach=True)
    stream: Any = container.stats(stream=True, decode=True)
    first, second = next(stream), next(stream)
    assert first["pids_stats"]["current"] == 1
    assert (second["preread"], second["precpu_stats"]["system_cpu_usage"]) == (first["read"], first["cpu_stats"]["system_cpu_usage"])
    container.kill()
    for document in stream:
        if not document["pids_stats"]:
            break
    container.remove()
    deadline = time.monotonic() + 20
    for _ in stream:
        assert time.monotonic() < deadline, "the stream goes on for a container that is gone"


def test_docker_py_reads_stats(docker_py: docker.DockerClient) -> None:
    container = docker_py.containers.run("busybox", ["sleep", "1000"], detach=True, mem_limit="32m")
    sample: Any = container.stats(stream=False)
    assert sample["memory_stats"]["limit"] == 32 * MIB
    sample = container.stats(stream=False, one_shot=True)
    assert sample["id"] == container.id


def test_docker_stats_draws_a_table_until_it_is_interrupted(engine: Engine) -> None:
    run(engine, "--name", "watched")
    with engine.terminal("stats", "watched") as terminal:
        terminal.expect(r"watched +\d+\.\d\d%")
        terminal.expect(r"watched +\d+\.\d\d%")


def test_teul_stats_says_the_same_as_docker_stats(engine: Engine) -> None:
    run(engine, "--name", "judged", "-m", "64m")
    form = "{{.Container}} {{.Name}} {{.MemUsage}} {{.NetIO}} {{.BlockIO}} {{.PIDs}}"

    def both() -> tuple[str, str]:
        return (
            engine.must("stats", "--no-stream", "--format", form),
            engine.teul("stats", "--no-stream", "--format", form).stdout.strip(),
        )

    # Packets that the host sends by itself may come between the two.
    eventually(lambda: len(set(both())) == 1, "both say the same")


def test_limits_of_a_running_container_change(engine: Engine) -> None:
    container = run(engine, "-m", "64m")
    limits = ["--memory", "128m", "--memory-swap", "256m", "--memory-reservation", "32m", "--cpus", "0.5", "--cpu-shares", "512"]
    assert engine.must("update", *limits, "--pids-limit", "40", "--cpuset-cpus", "0", container) == container
    assert cgroup_file(engine, container, "memory:memory.limit_in_bytes", "memory.max") == str(128 * MIB)
    assert cgroup_file(engine, container, "memory:memory.soft_limit_in_bytes", "memory.low") == str(32 * MIB)
    assert cgroup_file(engine, container, "cpu:cpu.cfs_quota_us", "cpu.max").split()[0] == "50000"
    assert cgroup_file(engine, container, "pids:pids.max", "pids.max") == "40"
    assert cgroup_file(engine, container, "cpuset:cpuset.cpus", "cpuset.cpus") == "0"
    host_config = engine.inspect(container)["HostConfig"]
    shown = {
        key: host_config[key] for key in ("Memory", "MemorySwap", "MemoryReservation", "NanoCpus", "CpuShares", "PidsLimit", "CpusetCpus")
    }
    assert shown == {
        "Memory": 128 * MIB,
        "MemorySwap": 256 * MIB,
        "MemoryReservation": 32 * MIB,
        "NanoCpus": 500_000_000,
        "CpuShares": 512,
        "PidsLimit": 40,
        "CpusetCpus": "0",
    }
    engine.must("restart", "-t", "0", container)
    assert cgroup_file(engine, container, "memory:memory.limit_in_bytes", "memory.max") == str(128 * MIB)
    engine.must("update", "--pids-limit", "-1", container)
    assert cgroup_file(engine, container, "pids:pids.max", "pids.max") == "max"


def test_limits_go_up_and_down_whatever_came_before(engine: Engine) -> None:
    """Memory must stay below memory and swap at every moment, so which is written first depends on where one comes from."""
    container = run(engine, "-m", "64m", "--memory-swap", "64m")
    for size in (256, 16, 128):
        engine.must("update", "-m", f"{size}m", "--memory-swap", f"{size}m", container)
        assert cgroup_file(engine, container, "memory:memory.limit_in_bytes", "memory.max") == str(size * MIB)


def test_a_stopped_container_is_started_with_its_new_limits(engine: Engine) -> None:
    container = engine.must("create", "busybox", "sleep", "1000")
    engine.must("update", "--pids-limit", "30", "-m", "32m", "--memory-swap", "32m", container)
    engine.must("start", container)
    assert cgroup_file(engine, container, "pids:pids.max", "pids.max") == "30"
    assert stats(engine, container)["memory_stats"]["limit"] == 32 * MIB


def test_a_change_that_the_kernel_refuses_changes_nothing(engine: Engine) -> None:
    container = run(engine, "-m", "64m", "--memory-swap", "128m", "--cpu-shares", "100")
    before = engine.inspect(container)["HostConfig"]
    with engine.api() as api:
        body = {"CpuShares": 200, "Memory": 32 * MIB, "PidsLimit": 1 << 40}
        refused = api.request("POST", f"/containers/{container}/update", body=body)
    assert refused.status == 400
    assert refused.message.startswith(f"Cannot update container {container}: ")
    assert "pids.max" in refused.message
    assert engine.inspect(container)["HostConfig"] == before
    assert cgroup_file(engine, container, "memory:memory.limit_in_bytes", "memory.max") == str(64 * MIB)
    assert cgroup_file(engine, container, "pids:pids.max", "pids.max") == "max"


def test_an_update_is_an_event(engine: Engine) -> None:
    container = run(engine, "--name", "changed")
    since = f"{time.time() - 1:.3f}"
    engine.must("update", "--cpu-shares", "100", "changed")
    engine.docker("update", "--memory", "1m", "changed")
    told = engine.must(
        "events",
        "--since",
        since,
        "--until",
        f"{time.time():.3f}",
        "--filter",
        "event=update",
        "--filter",
        f"container={container}",
        "--format",
        "{{json .}}",
    )
    (event,) = [json.loads(line) for line in told.splitlines()]
    assert event["id"] == container
    assert event["Actor"]["Attributes"]["name"] == "changed"


def test_another_restart_policy_counts_from_the_next_end(engine: Engine) -> None:
    container = run(engine)
    engine.must("update", "--restart", "always", container)
    assert engine.inspect(container)["HostConfig"]["RestartPolicy"] == {"Name": "always", "MaximumRetryCount": 0}
    with engine.api() as api:
        os.kill(engine.init_pid(container), 9)
        eventually(lambda: engine.inspect(container)["RestartCount"] == 1, "it is started again")
        refused = api.request("POST", f"/containers/{container}/update", body={"RestartPolicy": {"Name": "sometimes"}})
    assert refused.status == 400
    engine.must("update", "--restart", "no", container)
    eventually(lambda: engine.inspect(container)["State"]["Status"] == "running", "it runs")
    os.kill(engine.init_pid(container), 9)
    eventually(lambda: engine.inspect(container)["State"]["Status"] == "exited", "it has ended")


def test_limits_survive_the_engine(fresh_engine: Engine) -> None:
    container = run(fresh_engine)
    fresh_engine.must("update", "--pids-limit", "33", container)
    fresh_engine.kill9()
    fresh_engine.start()
    assert fresh_engine.inspect(container)["HostConfig"]["PidsLimit"] == 33
    assert stats(fresh_engine, container)["pids_stats"]["limit"] == 33
    fresh_engine.must("update", "--pids-limit", "34", container)
    assert cgroup_file(fresh_engine, container, "pids:pids.max", "pids.max") == "34"
