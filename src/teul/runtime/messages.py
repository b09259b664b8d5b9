"""What engine, keeper, starter and child tell each other: every document that travels between them, written down once for all ends.

    engine  -- Request + descriptors, Question -->  keeper  -- Launch + descriptors -->  starter  -- arguments -->  child
    engine  <-- HERE, STAYING --  keeper
    keeper  <-- StarterWord (+ descriptors) --  starter  <-- Failure, words on `sync` (see child/main) --  child
    engine  <-- Running + descriptors, Failure, ExitDocument (frames, see teul.wire.monitor) --  monitor in the keeper
    engine  -- Wants, TerminalSize (frames) -->  monitor in the keeper

On the wire the documents are JSON objects, one to a message, with descriptors riding along (`linux/seqpacket`). The shapes exist for the
type checker only: the keeper pays for every class with memory. stdlib only.

Descriptors of a `Request`, in order: the control connection, one per `attach`, then one pidfd per entry of `joins` and the mounts that
`mounts` counts, or for a `resume` the process's pidfd and the descriptors that `kept` names. A `Launch` has those from the pidfds on.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Literal, NotRequired, TypedDict

    from teul.linux.cgroups import Plan as CgroupPlan
    from teul.linux.netlink.links import Plan as LinkPlan

    Role = Literal["terminal", "stdin", "stdout", "stderr"]
    # "container": all that an exec enters; "network", "pid" and "ipc" are those of a donor.
    Joined = Literal["container", "network", "pid", "ipc"]

    class Wants(TypedDict, total=False):
        """What a connection to a monitor is for; also the payload of its HELLO. `control`: the engine's own."""

        control: bool
        stdin: bool
        stdout: bool
        stderr: bool

    LogFormat = Literal["json", "local"]

    class LogTls(TypedDict):
        """Paths, "" for none."""

        ca: str
        cert: str
        key: str
        skip_verify: bool

    class LogServer(TypedDict):
        """`network` is one of syslog's ("" for this machine's own), or "journal"; `address` a path, or host and port as they are told."""

        network: str
        address: str
        host: str
        port: str
        tls: LogTls | None

    class Forwarding(TypedDict):
        """From the engine by way of the keeper to the process that sends a container's lines to a log server."""

        id: str
        server: LogServer
        buffer_bytes: int | None  # what may wait before lines are lost; None: the program waits
        format: str
        facility: int
        tag: str
        hostname: str
        fields: dict[str, str]  # of each entry of a journal

    class LogOptions(TypedDict):
        path: str  # "" for no file
        max_bytes: int
        max_files: int
        attrs: str  # JSON object that each line gets, or ""
        format: NotRequired[LogFormat]  # "json" in older bundles
        compress: NotRequired[bool]  # full files; False in older bundles
        forward: NotRequired[Forwarding | None]

    class Delegation(TypedDict):
        """The OCI runtime of a container."""

        name: str
        path: str  # of its program
        root: str  # <run>/containers/<id>/runtime: what it knows of the container goes with the bundle
        container: str  # its id

    class Launch(TypedDict):
        """A process to be made. Kept in launch.json as long as the container runs, for an engine that takes it over."""

        kind: Literal["create", "exec"]  # a container's first process, or one more
        id: str  # of the container or exec; shown in the starter's process name
        keyring: str  # name of the session keyring: the container's own, which its execs share; a name that nobody guesses
        directory: str  # <run>/containers/<id>, or …/exec-<exec id>: config.json is there; monitor.sock and exit.json appear there
        spill_directory: str  # where output that waits for slow clients may lie
        terminal: bool
        rows: int  # of the terminal, 0 where nobody said
        columns: int
        stdin: Literal["null", "open", "once"]  # none, stays open, closes with its first client
        log: LogOptions | None
        cgroup: CgroupPlan | None
        kill_cgroup: bool  # when the process ends: it has no pid namespace of its own, whose end would be the other processes' end
        new_pids: bool  # the process becomes the first one of a pid namespace of its own
        joins: list[Joined]  # the namespaces to enter of other processes, one pidfd for each: a pid could be another process's by then
        mounts: int  # how many mounts come along, which the spec names by their number: the root's `lower` and `sources`
        networks: list[LinkPlan]  # the links to make, in the order of the container's interfaces
        runtime: NotRequired[Delegation]  # makes the process in the child's place
        resolver: NotRequired[bool]  # make the sockets of a DNS server in its network namespace (`linux/resolver`); False in older bundles

    class Resumption(TypedDict):
        """A process that runs already and whose monitor was lost; `kept` are the streams of which the engine has a descriptor."""

        pid: int
        kept: list[Role]

    class Request(TypedDict):
        """From the engine to the keeper: make a process or take one over, and watch over it."""

        launch: Launch
        attach: list[Wants]  # one per attachment descriptor
        resume: Resumption | None  # None: make the process

    class Question(TypedDict):
        """From the engine to a keeper that has been silent for long; the keeper answers `HERE`."""

        question: str

    class Failure(TypedDict):
        """Why a process was not started. `kind` is the name of an exception's class."""

        step: str
        errno: int | None
        message: str
        kind: str

    class StarterWord(TypedDict, total=False):
        """From a starter to the keeper: `forked` at once, and again if that process has forked the one that stays; then either `started` or
        `failed`.

        The near ends of the process's streams ride along with the first word that there is after each was made, `streams` naming them: the
        process may begin, and its starter be killed, before there is another word. So do the two sockets of the resolver, by themselves.
        """

        forked: int  # pid
        streams: list[Role]
        resolver: bool
        started: int  # pid
        failed: Failure

    class Running(TypedDict):
        """From a monitor to the engine: the process runs. The descriptors of `kept` ride along, and where there is a `resolver`, once, its

        two sockets after them: they are the engine's from then on.
        """

        pid: int
        kept: list[Role]
        resolver: NotRequired[bool]

    class TerminalSize(TypedDict):
        """From the engine to a monitor."""

        rows: int
        columns: int

    class ProcessFile(TypedDict):
        """pid.json: enough to know the process again. `start_time` as in /proc/PID/stat."""

        pid: int
        keeper_pid: int
        start_time: int

    class ExitDocument(TypedDict):
        """exit.json, and what the monitor tells everybody at the end."""

        exit_code: int
        finished_at_ns: int
        oom_killed: bool
        signal: NotRequired[int]
        error: NotRequired[str]
        log_error: NotRequired[str]
        cgroup_error: NotRequired[str]
else:
    Role = Joined = LogFormat = str
    LogTls = LogServer = Forwarding = dict
    Wants = LogOptions = Delegation = Launch = Resumption = Request = Question = Failure = StarterWord = Running = TerminalSize = (
        ProcessFile
    ) = ExitDocument = dict

# Words of the keeper's on its connection to the engine.
HERE = b"here"
STAYING = b"staying"  # the last one: there are processes to watch over

EXIT_FILE = "exit.json"
PROCESS_FILE = "pid.json"
SOCKET_FILE = "monitor.sock"
CONFIG_FILE = "config.json"
