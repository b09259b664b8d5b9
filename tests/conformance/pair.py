"""Docker's command line and Teul's, speaking to one engine: both must do and say the same."""

from __future__ import annotations

import os
import re
import stat
import subprocess
import sys
from pathlib import Path

from support.docker_host import DockerHost, Output

TEUL = str(Path(sys.executable).with_name("teul"))
PROGRAMS = (("docker", "docker"), ("teul", TEUL))


class Pair:
    """Both commands, each with settings and files of its own, and the engine that both speak to."""

    def __init__(self, dockerd: DockerHost, directory: Path) -> None:
        self.dockerd = dockerd
        self.directory = directory
        for name, _ in PROGRAMS:
            (directory / name / "config").mkdir(parents=True)

    def environment(self, name: str) -> dict[str, str]:
        home = str(self.directory / name)
        return {**self.dockerd.environment(), "HOME": home, "DOCKER_CONFIG": f"{home}/config", "PATH": f"{home}/bin:{os.environ['PATH']}"}

    def run(self, name: str, program: str, arguments: tuple[str, ...], stdin: bytes) -> Output:
        where = self.directory / name
        done = subprocess.run([program, *arguments], input=stdin, capture_output=True, env=self.environment(name), cwd=where, check=False)
        out, err = (text.decode(errors="replace").replace(str(where), "<home>") for text in (done.stdout, done.stderr))
        # docker logs what its own threads say to each other.
        err = "".join(line for line in err.splitlines(keepends=True) if not line.startswith("time="))
        return Output(done.returncode, _as_teul(out), _as_teul(err))

    def same(self, *arguments: str, stdin: bytes = b"") -> Output:
        """Run both, demand the same of them, and return it."""
        docker, teul = (self.run(name, program, arguments, stdin) for name, program in PROGRAMS)
        assert teul == docker
        return teul

    def after(self, *before: str, run: tuple[str, ...], stdin: bytes = b"") -> Output:
        """As `same`, with docker's command `before` ahead of each."""
        outputs = []
        for name, program in PROGRAMS:
            self.dockerd.must(*before)
            outputs.append(self.run(name, program, run, stdin))
        assert outputs[1] == outputs[0]
        return outputs[1]

    def files(self, name: str) -> dict[str, tuple[object, ...]]:
        """What stands below a command's directory, settings aside: modes, times, contents."""
        found: dict[str, tuple[object, ...]] = {}
        root = self.directory / name
        for path in sorted(root.rglob("*")):
            relative = str(path.relative_to(root))
            if relative.split("/")[0] in {"config", "bin"}:
                continue
            status = path.lstat()
            content: object = os.readlink(path) if path.is_symlink() else path.read_bytes() if path.is_file() else None
            when = int(status.st_mtime) if path.is_file() or path.is_symlink() else None
            found[relative] = (stat.filemode(status.st_mode), status.st_uid, status.st_gid, when, content)
        return found


def _as_teul(text: str) -> str:
    """docker's own name for itself, where a message has it."""
    return re.sub(
        r"(?m)^docker: |(?<=[ '])docker(?= (?:run|create|cp|pull|push|login|logout|save|export|diff|image|network|volume)\b)",
        _renamed,
        text,
    )


def _renamed(match: re.Match[str]) -> str:
    return match[0].replace("docker", "teul")
