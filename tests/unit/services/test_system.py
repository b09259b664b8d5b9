"""What the engine says about itself."""

from __future__ import annotations

from teul.linux.cgroups import Layout
from teul.model.container import Container
from teul.services.events import Events
from teul.services.system import EngineFacts, System, parse_os_release


class Nothing:
    """No containers, no images."""

    def list(self) -> list[Container]:
        return []

    def count(self) -> int:
        return 0


def system(layout: Layout, *, seccomp: bool = True) -> System:
    facts = EngineFacts(
        engine_id="id", version="1.2.3", root="/", run_root="/run", snapshotter="directory", cgroups=layout, seccomp=seccomp
    )
    return System(facts, Nothing(), Nothing(), Events())


def test_os_release_is_read_without_its_quotes() -> None:
    text = "# comment\nPRETTY_NAME=\"Debian GNU/Linux 12 (bookworm)\"\nID=debian\nVERSION_ID='12'\nbroken\n"
    assert parse_os_release(text) == {"PRETTY_NAME": "Debian GNU/Linux 12 (bookworm)", "ID": "debian", "VERSION_ID": "12"}


async def test_missing_limits_are_warned_of() -> None:
    info = await system(Layout({}, (), "/nowhere", frozenset({"cpu", "pids"})), seccomp=False).info()
    assert "WARNING: No memory limit support" in info.warnings
    assert "WARNING: No swap limit support" not in info.warnings
    assert "WARNING: No cpuset support" in info.warnings
    assert "WARNING: No pids limit support" not in info.warnings
    assert any("libseccomp2" in warning for warning in info.warnings)
    assert (info.cgroup_version, info.cgroup_driver) == ("2", "cgroupfs")
    assert info.security_options[-1] == "name=cgroupns"


async def test_a_host_without_cgroups_has_no_driver() -> None:
    info = await system(Layout({}, (), None, frozenset())).info()
    assert (info.cgroup_version, info.cgroup_driver) == ("1", "none")
    assert info.containers == info.images == 0
    assert info.memory_bytes > 0


def test_version() -> None:
    version = system(Layout({}, (), None, frozenset())).version()
    assert (version.version, version.api_version, version.minimum_api_version) == ("1.2.3", "1.51", "1.24")
