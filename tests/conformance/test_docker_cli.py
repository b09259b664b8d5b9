"""The docker command line says the same to Teul as to dockerd: same output, same exit codes; listed differences aside."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from conformance.docker_cli.compare import compare
from conformance.docker_cli.differences import INSTEAD, PATHS, REWRITES
from conformance.docker_cli.player import Player
from conformance.docker_cli.session import SCENES, compared_steps, load_golden, recorded_versions
from conformance.docker_cli.steps import Scene
from support.dockerd import Dockerd
from support.engine import Engine
from support.needs import needs

pytestmark = [needs("root", "docker_cli", "busybox", "overlayfs")]

RECORD = "record again with: cd tests && python -m conformance.record docker_cli"

scenes = pytest.mark.parametrize("scene", SCENES, ids=lambda scene: scene.name.replace(" ", "-"))


class Pinned(Engine):
    """Teul with a docker CLI that is held to the API version of the recorded dockerd."""

    def environment(self) -> dict[str, str]:
        return {**super().environment(), "DOCKER_API_VERSION": "1.41"}


@pytest.fixture(scope="module", params=[Engine, Pinned], ids=["negotiated", "1.41"])
def player(request: pytest.FixtureRequest, archives: dict[str, Path]) -> Iterator[Player]:
    engine: Callable[[], Engine] = request.param
    with engine() as running:
        yield Player(running, archives)


@pytest.fixture(scope="module")
def docker_player(archives: dict[str, Path]) -> Iterator[Player]:
    with Dockerd() as dockerd:
        yield Player(dockerd, archives)


def differing_steps(player: Player, scene: Scene, *, as_recorded: bool = False) -> list[str]:
    golden = load_golden()[scene.name]
    steps = compared_steps(scene)
    assert [step.title for step in golden] == [step.title for step in steps], f"the golden file is of another session: {RECORD}"
    return [
        f"$ {was.title}\n  {problem}"
        for was, now, step in zip(golden, player.play(scene), steps, strict=True)
        for problem in compare(was, now, step.compare, as_recorded=as_recorded)
    ]


@scenes
def test_docker_cli_sees_no_difference(player: Player, scene: Scene) -> None:
    """Every step of the scene ends for Teul as it was recorded for dockerd.

    Held to the older version, every third scene is played, or all with TEUL_PLAY_RECORD.
    """
    if isinstance(player.host, Pinned) and SCENES.index(scene) % 3 and not os.environ.get("TEUL_PLAY_RECORD"):
        pytest.skip("played by the negotiated version only")
    problems = differing_steps(player, scene)
    assert not problems, "\n" + "\n".join(problems)


@needs("dockerd")
@scenes
def test_record_is_what_dockerd_says_today(docker_player: Player, scene: Scene) -> None:
    """A test that fails on real Docker is wrong: the record must hold for the dockerd of this machine.

    Where it is the one that was recorded, that is played again only when asked for, by TEUL_PLAY_RECORD (`make endurance`): it takes minutes.
    """
    here = tuple(docker_player.host.must("version", "--format", "{{.Server.Version}} {{.Client.Version}}").split())
    if here == recorded_versions() and not os.environ.get("TEUL_PLAY_RECORD"):
        pytest.skip("this dockerd and this docker command were recorded")
    changed = differing_steps(docker_player, scene, as_recorded=True)
    assert not changed, "\n" + "\n".join(changed) + f"\n{RECORD}"


def test_session_is_large_enough_to_mean_something() -> None:
    """The session has at least as many steps as the agreement asks for."""
    assert sum(len(compared_steps(scene)) for scene in SCENES) >= 150


def test_every_difference_has_a_reason() -> None:
    """Nothing is excused silently."""
    reasons = [*(entry.reason for entry in REWRITES), *(entry.reason for entry in INSTEAD), *(entry.reason for entry in PATHS)]
    assert all(reasons)
