"""The OCI runtime spec (config.json) as far as it is written and read here: shapes of plain dicts, in the spec's own spelling.

The child reads them without any library, so they exist for the type checker only. `teul` is our extension: what the spec has no word
for. Source: OCI runtime-spec 1.2, config.md and config-linux.md.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, Literal, NotRequired, TypedDict

    class User(TypedDict, total=False):
        uid: int
        gid: int
        umask: int
        additionalGids: list[int]

    class ConsoleSize(TypedDict):
        height: int
        width: int

    class Rlimit(TypedDict):
        type: str  # RLIMIT_NOFILE and the like
        soft: int  # 2**64 - 1 and -1 are "unlimited"
        hard: int

    class Capabilities(TypedDict, total=False):
        bounding: list[str]
        effective: list[str]
        permitted: list[str]
        inheritable: list[str]
        ambient: list[str]

    class Process(TypedDict):
        terminal: bool
        user: User
        args: list[str]
        env: list[str]
        cwd: str
        capabilities: NotRequired[Capabilities]
        rlimits: NotRequired[list[Rlimit]]
        oomScoreAdj: NotRequired[int]
        consoleSize: NotRequired[ConsoleSize]
        noNewPrivileges: NotRequired[bool]
        apparmorProfile: NotRequired[str]
        selinuxLabel: NotRequired[str]

    class Root(TypedDict):
        path: str
        readonly: NotRequired[bool]

    class Mount(TypedDict):
        destination: str
        type: NotRequired[str]
        source: NotRequired[str]
        options: NotRequired[list[str]]

    class Namespace(TypedDict):
        type: str  # pid, network, mount, ipc, uts, cgroup
        path: NotRequired[str]  # of one to join

    class Device(TypedDict):
        path: str
        type: str
        major: NotRequired[int]
        minor: NotRequired[int]
        fileMode: NotRequired[int]
        uid: NotRequired[int]
        gid: NotRequired[int]

    class Linux(TypedDict):
        namespaces: list[Namespace]
        cgroupsPath: NotRequired[str]
        resources: NotRequired[dict[str, Any]]
        devices: NotRequired[list[Device]]
        sysctl: NotRequired[dict[str, str]]
        maskedPaths: NotRequired[list[str]]
        readonlyPaths: NotRequired[list[str]]
        rootfsPropagation: NotRequired[str]
        seccomp: NotRequired[dict[str, Any]]

    class Overlay(TypedDict):
        lower: list[str | int]  # the image's layers, the topmost first: a directory, or the number of a mount that comes with the launch
        upper: str
        work: str

    class IdMap(TypedDict):
        """Ranges (first id of the source, first id shown, count). None at all: the source's owner is shown as the container's user."""

        uids: list[list[int]]
        gids: list[list[int]]

    class ExecExtension(TypedDict, total=False):
        """What the spec cannot say of a process."""

        user: str | None  # as the client wrote it; None: `process.user` has the numbers
        groups: list[str]  # by name
        seccomp_bpf: str | None  # path of the compiled filter
        seccomp_flags: int
        seccomp_forks: bool  # under the filter a process can still fork and start a session
        init: bool  # PID 1 forwards signals and reaps

    class Extension(ExecExtension, total=False):
        """What the spec cannot say of a container."""

        rootfs: Overlay
        sources: dict[str, int]  # by destination: the number of the mount that came with the start, in place of the source's path
        idmaps: dict[str, IdMap]  # by destination

    class Spec(TypedDict):
        ociVersion: str
        process: Process
        root: Root
        mounts: list[Mount]
        linux: Linux
        hostname: NotRequired[str]
        domainname: NotRequired[str]
        annotations: NotRequired[dict[str, str]]
        teul: Extension

    class ExecSpec(TypedDict):
        """config.json of one more process in a running container."""

        process: Process
        teul: ExecExtension

    NamespaceKind = Literal["network", "pid", "ipc"]
else:
    NamespaceKind = str
    User = ConsoleSize = Rlimit = Capabilities = Process = Root = Mount = Namespace = Device = Linux = Overlay = IdMap = dict
    ExecExtension = Extension = Spec = ExecSpec = dict
