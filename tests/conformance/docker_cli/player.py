"""Plays scenes against an engine and gives back what a person would have seen."""

from __future__ import annotations

import contextlib
import json
import os
import re
import select
import subprocess
import time
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from conformance.docker_cli.normalise import Normaliser
from conformance.docker_cli.steps import Compare, Resizes, Scene, Shows, Step, Types, Waits
from support import images
from support.docker_host import DockerHost, Output
from support.polling import eventually

_DEADLINE_SECONDS = 30.0


@dataclass(frozen=True, slots=True)
class Seen:
    """One step's outcome, normalised. `stdout` is a JSON value for steps that compare JSON."""

    title: str
    exit_code: int
    stdout: Any
    stderr: str


class Background:
    """A command that runs while the session goes on, with its stdin held open."""

    def __init__(self, host: DockerHost, step: Step) -> None:
        self._process = host.begin(*step.argv)
        assert self._process.stdin is not None
        self._process.stdin.write(step.stdin)
        self._process.stdin.flush()
        self._stdout = b""
        if step.until is not None:
            self._read_until(step.until)

    def finish(self) -> Output:
        try:
            rest, errors = self._process.communicate(timeout=_DEADLINE_SECONDS)
        except subprocess.TimeoutExpired:
            self.abandon()
            raise AssertionError(f"{self._process.args!r} does not end; it wrote {self._stdout!r}") from None
        return Output(self._process.returncode, (self._stdout + rest).decode(errors="replace"), errors.decode(errors="replace"))

    def abandon(self) -> None:
        if self._process.poll() is None:
            self._process.kill()
        self._process.communicate()

    def _read_until(self, pattern: str) -> None:
        assert self._process.stdout is not None
        descriptor = self._process.stdout.fileno()
        deadline = time.monotonic() + _DEADLINE_SECONDS
        while not re.search(pattern.encode(), self._stdout):
            readable = select.select([descriptor], [], [], max(0.0, deadline - time.monotonic()))[0]
            data = os.read(descriptor, 65536) if readable else b""
            if not data:
                self.abandon()
                raise AssertionError(f"{self._process.args!r} never wrote {pattern!r}; it wrote {self._stdout!r}")
            self._stdout += data


def _abandon(running: dict[str, Background]) -> None:
    for task in running.values():
        task.abandon()


class Player:
    """Plays scenes against one engine. Every scene finds the base images and no containers, and leaves the same."""

    def __init__(self, host: DockerHost, archives: dict[str, Path]) -> None:
        self.host = host
        self._archives = archives
        self._base = {
            identifier: image for image in (images.busybox(), images.layered()) for identifier in (image.image_id, image.config_id)
        }
        names = {str(path): f"@{name}" for name, path in archives.items()} | {str(host.base): "<base>"}
        for identifier, image in ((identifier.removeprefix("sha256:"), image) for identifier, image in self._base.items()):
            names |= {identifier: f"<{image.names[0]} id>", identifier[:12]: f"<{image.names[0]} short id>"}
        self._normaliser = Normaliser(names)

    def play(self, scene: Scene) -> list[Seen]:
        self._set_the_stage()
        running: dict[str, Background] = {}
        with ExitStack() as stack:
            stack.callback(_abandon, running)
            return list(self._play(scene, running))

    def _play(self, scene: Scene, running: dict[str, Background]) -> Iterator[Seen]:
        for step in scene.steps:
            carried_out = self._with_paths(step)
            if step.begins is not None:
                running[step.begins] = Background(self.host, carried_out)
                continue
            yield self._seen(step, running.pop(step.ends).finish() if step.ends is not None else self._carry_out(carried_out))

    def _carry_out(self, step: Step) -> Output:
        if step.dialogue is not None:
            return self._converse(step)
        if step.until is None and step.unlike is None:
            return self.host.docker(*step.argv, stdin=step.stdin)

        def is_there() -> Output | None:
            output = self.host.docker(*step.argv, stdin=step.stdin)
            arrived = step.until is None or re.search(step.until, output.stdout)
            return output if arrived and not (step.unlike and re.search(step.unlike, output.stdout)) else None

        output = eventually(is_there, step.title, timeout_seconds=_DEADLINE_SECONDS, interval_seconds=0.1)
        assert output is not None
        return output

    def _converse(self, step: Step) -> Output:
        with self.host.terminal(*step.argv) as terminal:
            for turn in step.dialogue or ():
                match turn:
                    case Shows(pattern):
                        terminal.expect(pattern)
                    case Types(text):
                        terminal.send(text)
                    case Waits():
                        terminal.expect_raw()
                    case Resizes(rows, columns):
                        terminal.resize(rows, columns)
            return Output(terminal.wait(), terminal.output, "")

    def _seen(self, step: Step, output: Output) -> Seen:
        stdout: Any = self._normaliser.text(output.stdout)
        if step.compare is Compare.JSON:
            # What is not JSON is compared as the text it is, which shows the reader what came instead.
            with contextlib.suppress(ValueError):
                stdout = self._normaliser.value(json.loads(output.stdout))
        return Seen(step.title, output.exit_code, stdout, self._normaliser.text(output.stderr))

    def _with_paths(self, step: Step) -> Step:
        argv = tuple(str(self._archives[argument[1:]]) if argument.startswith("@") else argument for argument in step.argv)
        fields = {name: getattr(step, name) for name in Step.__dataclass_fields__}
        return Step(**{**fields, "argv": argv})

    def _set_the_stage(self) -> None:
        self.host.remove_containers()
        present: set[str] = set()
        with self.host.api() as api:
            for entry in api.expect(200, "GET", "/images/json?all=1").json():
                wanted = self._base.get(entry["Id"])
                if wanted is not None and sorted(entry["RepoTags"] or ()) == sorted(wanted.names):
                    present.add(wanted.config_id)
                else:
                    api.request("DELETE", f"/images/{entry['Id']}?force=1")
        for image in {image.config_id: image for image in self._base.values()}.values():
            if image.config_id not in present:
                self.host.load(image.docker_archive())
