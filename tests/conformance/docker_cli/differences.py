"""What may differ between the recorded dockerd (Debian's 20.10) and Teul, each with its reason. Everything else is a failure.

Three kinds of entries: `Rewrite` brings two wordings of the same thing to one; `Instead` says what Teul must answer where the
recorded Docker could not or newer Dockers answer differently; `Path` excuses one member of a JSON document.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

from conformance.docker_cli.player import Seen


@dataclass(frozen=True, slots=True)
class Rewrite:
    """Applied to stdout and stderr of both sides."""

    pattern: re.Pattern[str]
    replacement: str
    reason: str


@dataclass(frozen=True, slots=True)
class Instead:
    """For steps whose title matches: Teul's outcome is compared with this and not with the record. None: not compared."""

    title: re.Pattern[str]
    reason: str
    exit_code: int = 0
    stdout: str | None = None
    stderr: str | None = None


@dataclass(frozen=True, slots=True)
class Path:
    """A member, by its path in the document, that may be missing from Teul's document or have another value."""

    path: re.Pattern[str]
    reason: str
    title: str = ""
    """Only for steps whose title contains this."""


def _rewrite(pattern: str, replacement: str, reason: str) -> Rewrite:
    return Rewrite(re.compile(pattern, re.MULTILINE), replacement, reason)


_WORDING = "newer Dockers word it so"
_DIGESTS = "an image is what its name points to, and has that digest wherever it came from, as in Docker 29"

REWRITES = (
    _rewrite(
        r"(?:failed to create task for container: )?(?:failed to create shim task: )?OCI runtime create failed: runc create failed: "
        r"unable to start container process: (?:error during container init: )?",
        "<cannot start>: ",
        "the chain of prefixes grew a link with each of Docker's components",
    ),
    _rewrite(r"sha256:<\S+ id>(?=  <\S+ short id>  <while> ago)|<none>(?=  <\S+ short id>  <while> ago)", "<digest>", _DIGESTS),
    _rewrite(r"(?<=: unknown)(?:: )?$|: unknown$", "", "containerd's error kind, which 27 and later cut off in places"),
    _rewrite(r"OCI runtime exec failed: exec failed: unable to start container process: ", "<cannot exec>: ", "the same for exec"),
    _rewrite(r"^no such image: \S+: (?=No such image)|(?<=: )no such image: \S+: (?=No such image)", "", "20.10 says it twice"),
    _rewrite(
        r"[Yy]ou cannot remove a running container \S+ Stop the container before attempting removal or force remove"
        r"|cannot remove container \"?/?\S+?\"?: container is running: stop the container before removing or force remove",
        "<cannot remove a running container>",
        _WORDING,
    ),
    _rewrite(r"[Uu]nknown runtime specified |unknown or invalid runtime name: ", "<unknown runtime>: ", _WORDING),
    _rewrite(
        r"maximum retry count cannot be used with restart policy '\w+'|invalid restart policy: maximum retry count .*",
        "<retries>",
        _WORDING,
    ),
    _rewrite(r"\bInvalid (?=signal|filter|container name|value|CapAdd|CapDrop)", "invalid ", _WORDING),
    _rewrite(r"\bCannot kill container", "cannot kill container", _WORDING),
    _rewrite(r"\b[Cc]ontainer (?=\S+ is (?:not running|already paused|not paused))", "container ", _WORDING),
    _rewrite(r"[Rr]ange of CPUs is", "range of CPUs is", _WORDING),
    _rewrite(r"[Nn]o such container", "No such container", _WORDING),
    _rewrite(r"invalid filter 'status=nonsense'", "invalid filter 'status=[nonsense]'", _WORDING),
    _rewrite(r"[Nn]o command specified", "no command specified", _WORDING),
    _rewrite(r"[Cc]ontainer \S+ is paused, unpause the container", "<container> is paused, unpause the container", _WORDING),
    _rewrite(r"cannot kill container: \S+: (?=invalid signal)", "", "since 22, the signal is judged where the container is killed"),
    _rewrite(r"[Tt]he linux daemon does not support signal", "the linux daemon does not support signal", _WORDING),
    _rewrite(r"(invalid filter 'status=\[nonsense\]').*", r"\1", "newer Dockers add the values that there are"),
    _rewrite(r'(exec: "/etc": )(?:permission denied|is a directory)', r"\1<a directory>", "later runcs say what is wrong with it"),
    _rewrite(r"repository name (?:\(library/Bad\) )?must be lowercase", "repository name must be lowercase", "newer Dockers name it"),
    _rewrite(r"(?i)nonsense is not a valid change command", "nonsense is not a valid change command", "as written since 27"),
    _rewrite(r"^ (?:containerd|runc|docker-init):\n(?:  .*\n?)+", "", "components that Teul does not consist of"),
    _rewrite(r"^( *)(?:userxattr|Using metacopy): .*\n", "", "added and removed between versions of `docker info`"),
)

INSTEAD = (
    Instead(
        re.compile(r"run --rm --privileged .* echo mounted"),
        "20.10 asks for capabilities that dockerd itself does not have and fails; later ones take what there is",
        stdout="mounted\n",
        stderr="",
    ),
    Instead(re.compile(r"run --rm --privileged .*Seccomp:"), "the same", stdout="Seccomp:\t0\n", stderr=""),
    Instead(re.compile(r"exec --privileged"), "the same; which capabilities there are depends on the machine"),
    Instead(
        re.compile(r"exec running no-such-command"),
        "126 in 20.10; 127, as for run, since 23",
        exit_code=127,
        stdout='<cannot exec>: exec: "no-such-command": executable file not found in $PATH\n',
        stderr="",
    ),
    Instead(
        re.compile(r"run --rm busybox /bin/script-without-interpreter"),
        "1 with the recorded runc, 255 with later ones",
        exit_code=255,
        stdout="",
        stderr="exec /bin/script-without-interpreter: no such file or directory\n",
    ),
    Instead(
        re.compile(r"exec -w /no/such/directory"),
        "126 in 20.10; 127 since 23, as for every `no such file or directory`",
        exit_code=127,
        stdout='<cannot exec>: chdir to cwd ("/no/such/directory") set in config.json failed: no such file or directory\n',
        stderr="",
    ),
    Instead(
        re.compile(r"exec -u nobody-here"),
        "20.10 finds out at the start; later ones when the exec is prepared",
        exit_code=1,
        stdout="",
        stderr="Error response from daemon: unable to find user nobody-here: no matching entries in passwd file\n",
    ),
    Instead(re.compile(r"run --rm -w /etc/passwd"), "20.10's own sentence; later ones have runc's", exit_code=125),
)

PATHS = (
    Path(
        re.compile(r"\.Config\.(Hostname|Domainname|AttachStdin|Tty|OpenStdin|StdinOnce)"),
        "removed from an image's config in API 1.50",
        title="docker image inspect",
    ),
    *(
        Path(re.compile(pattern), reason)
        for pattern, reason in (
            (r"\.RepoDigests", _DIGESTS),
            (r"\.GraphDriver\..*", "where the layers are on disk is each engine's own business"),
            (r"\.(ResolvConfPath|HostnamePath|HostsPath|LogPath)", "the same for the files of a container"),
            (r"\.State\.Pid", "another process"),
            (r"(\.HostConfig)?\.NetworkMode", "`default` is written as the network it means since 26"),
            (r"(\.HostConfig)?\.(MaskedPaths|ReadonlyPaths)", "newer Dockers mask more; the inside look compares what is masked"),
            (r"(\.HostConfig)?\.CgroupParent", "the recorded dockerd was given one, to be swept afterwards"),
            (r"(\.HostConfig)?\.CgroupnsMode", "private here on all hosts, host by default in Docker on cgroup v1"),
            (r"(\.HostConfig)?\.(KernelMemory|KernelMemoryTCP)", "removed from the API in 1.42"),
            (r"(\.HostConfig)?\.Devices", "null and [] both mean none; the version decides"),
            (r"\.NetworkSettings\..*(SandboxID|SandboxKey|EndpointID|NetworkID)", "names of an engine's own objects"),
            (r"\.NetworkSettings\..*(Gateway|IPAddress|MacAddress)", "addresses: the recorded dockerd was given its own subnet"),
            (r"\.(ContainerConfig|Container|DockerVersion|VirtualSize|Parent)\b.*", "removed from images in API 1.44 and 1.45"),
            (r"\.(AppArmorProfile|MountLabel|ProcessLabel)", "depends on the host's security module"),
            (r"\.Metadata\.LastTagTime", "when the image was loaded"),
            (r"\.Config\.(AttachStdout|AttachStderr|Image)", "set by the command line, checked where it matters"),
        )
    ),
)


def expected(golden: Seen) -> tuple[Seen, str | None]:
    """What Teul's outcome of this step is compared with, and the reason when that is not the record."""
    for entry in INSTEAD:
        if entry.title.search(golden.title):
            return Seen(golden.title, entry.exit_code, entry.stdout, entry.stderr or ""), entry.reason
    return golden, None


def rewrite(text: str) -> str:
    for entry in REWRITES:
        text = entry.pattern.sub(entry.replacement, text)
    return text


def compare_json(golden: Any, actual: Any, title: str, path: str = "") -> list[str]:
    """What of `golden` is missing from or different in `actual`. More members in `actual` are fine: the API only grows."""
    if _is_excused(title, path):
        return []
    match golden, actual:
        case dict(), dict():
            missing = [
                f"{path}.{key}: missing, Docker has {golden[key]!r}"
                for key in golden
                if key not in actual and not _is_excused(title, f"{path}.{key}")
            ]
            return missing + [
                line for key in golden if key in actual for line in compare_json(golden[key], actual[key], title, f"{path}.{key}")
            ]
        case list(), list() if len(golden) == len(actual):
            # An array's index is no part of a path: what is excused is excused in all of them.
            return [line for old, new in zip(golden, actual, strict=True) for line in compare_json(old, new, title, path)]
        case str(), str():
            return [] if rewrite(golden) == rewrite(actual) else [f"{path}: {actual!r}, Docker has {golden!r}"]
    return [] if golden == actual and type(golden) is type(actual) else [f"{path}: {actual!r}, Docker has {golden!r}"]


def _is_excused(title: str, path: str) -> bool:
    return any(entry.title in title and entry.path.fullmatch(path) for entry in PATHS)
