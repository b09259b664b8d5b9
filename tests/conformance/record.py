"""Records what dockerd answers: `cd tests && python -m conformance.record [docker_cli | inside_look] [--scene NAME]`.

The golden files are what Teul is compared with where no dockerd is installed. Review their diff like code.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from dataclasses import asdict
from pathlib import Path

from conformance import inside_look
from conformance.docker_cli import session
from conformance.docker_cli.player import Player
from support import images
from support.dockerd import Dockerd


def main() -> int:
    parser = argparse.ArgumentParser(prog="conformance.record", description=__doc__)
    parser.add_argument("what", nargs="?", choices=["docker_cli", "inside_look"], help="record only this")
    parser.add_argument("--scene", help="play only this scene of docker_cli and print what came; record nothing")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="teul-archives-") as directory, Dockerd() as dockerd:
        player = Player(dockerd, images.save(Path(directory)))
        if options.scene is not None:
            scene = next(scene for scene in session.SCENES if scene.name == options.scene)
            print(json.dumps([asdict(seen) for seen in player.play(scene)], indent=1))
            return 0
        if options.what in {None, "docker_cli"}:
            versions = dockerd.must("version", "--format", "{{.Server.Version}} {{.Client.Version}}").split()
            session.save_golden(versions[0], versions[1], session.record(player))
            print(f"recorded {session.GOLDEN}")
        if options.what in {None, "inside_look"}:
            inside_look.save_golden(inside_look.look_everywhere(dockerd))
            print(f"recorded {inside_look.GOLDEN}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
