"""The whole session, and the file that holds what dockerd said to it."""

from __future__ import annotations

import json
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from conformance.docker_cli import scenes_containers, scenes_images, scenes_run
from conformance.docker_cli.player import Player, Seen
from conformance.docker_cli.steps import Compare, Scene, Step

SCENES: tuple[Scene, ...] = scenes_run.SCENES + scenes_containers.SCENES + scenes_images.SCENES
GOLDEN = Path(__file__).parents[1] / "golden" / "docker_cli.json"


def compared_steps(scene: Scene) -> list[Step]:
    """The steps that `Player.play` reports on, in its order: a background command counts where it ends."""
    return [step for step in scene.steps if step.begins is None]


def record(player: Player) -> dict[str, Any]:
    """Play everything; the result is what the golden file holds."""
    return {
        scene.name: [_recorded(seen, step) for seen, step in zip(player.play(scene), compared_steps(scene), strict=True)]
        for scene in SCENES
    }


def _recorded(seen: Seen, step: Step) -> dict[str, Any]:
    # What is not compared would only be noise in the diff of the next record.
    return asdict(replace(seen, stdout="(not compared)", stderr="(not compared)") if step.compare is Compare.EXIT else seen)


def load_golden() -> dict[str, list[Seen]]:
    recorded = json.loads(GOLDEN.read_text())["scenes"]
    return {name: [Seen(**seen) for seen in steps] for name, steps in recorded.items()}


def recorded_versions() -> tuple[str, str]:
    """Of the dockerd that was recorded, and of the command that spoke to it."""
    recorded = json.loads(GOLDEN.read_text())
    return recorded["server"], recorded["client"]


def save_golden(server: str, client: str, scenes: dict[str, Any]) -> None:
    document = {"server": server, "client": client, "scenes": scenes}
    GOLDEN.write_text(json.dumps(document, indent=1, ensure_ascii=False) + "\n")
