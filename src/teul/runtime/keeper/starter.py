"""Makes one process and hands it to the keeper, in a fork of the keeper's that then leaves.

While the child builds its root, the starter makes the network link beside it, so that on two processors the slower of the two
decides. The child is the keeper's own (CLONE_PARENT), so it never changes its parent. If the keeper is killed meanwhile, nobody
could watch over what is being made, and it is undone.
"""

from __future__ import annotations

import array
import errno
import gc
import json
import os
import select
import signal
import socket
import struct
from typing import TYPE_CHECKING, NoReturn

from teul import failpoints
from teul.linux import cgroups, process
from teul.linux.netlink import links
from teul.linux.netlink.socket import Netlink
from teul.linux.netns import being_inside
from teul.linux.resolver import open_resolver_sockets
from teul.linux.seqpacket import receive_message, send_message
from teul.runtime.child.delegate import Delegate
from teul.runtime.child.main import Child

if TYPE_CHECKING:
    from teul.runtime.messages import Failure, Joined, Launch, Resumption, Role, StarterWord

LOST: Failure = {
    "step": "start",
    "errno": None,
    "message": "the container's starter ended before it could start the process",
    "kind": "OSError",
}
REVOKED: Failure = {"step": "start", "errno": None, "message": "the start was given up", "kind": "OSError"}
_FAILED_WITHOUT_WORD: Failure = {
    "step": "start",
    "errno": None,
    "message": "the process ended before it could be started",
    "kind": "OSError",
}
_PIPES: tuple[Role, ...] = ("stdin", "stdout", "stderr")
_OUTPUTS: tuple[tuple[Role, int], ...] = (("terminal", 1), ("stdout", 1), ("stderr", 2))


_credentials = struct.Struct("=3i")  # linux/socket.h, struct ucred: pid, uid, gid
_ANCILLARY_ROOM = socket.CMSG_SPACE(4) + socket.CMSG_SPACE(_credentials.size)


class StartFailed(Exception):
    """Nothing was started; `report` says which step failed and why."""

    def __init__(self, report: Failure) -> None:
        super().__init__(report["message"])
        self.report = report


class Started:
    """A running process and the near ends of its streams, by their roles: "terminal", or "stdin", "stdout" and "stderr"."""

    __slots__ = ("input_fd", "outputs", "pid", "pidfd", "start_time", "terminal")

    def __init__(self, pid: int, pidfd: int, streams: dict[Role, int]) -> None:
        self.pid = pid
        self.pidfd = pidfd
        self.terminal = "terminal" in streams
        self.input_fd = streams.get("terminal", streams.get("stdin", -1))
        self.outputs = {streams[role]: stream for role, stream in _OUTPUTS if role in streams}
        self.start_time = process.started_at(pid)

    @classmethod
    def resumed(cls, resumption: Resumption, descriptors: list[int]) -> Started:
        """Where a killed keeper stopped, with the descriptors that the engine kept."""
        pidfd, *kept = descriptors
        return cls(resumption["pid"], pidfd, dict(zip(resumption["kept"], kept, strict=True)))


def stand_by(line: socket.socket, title_area: tuple[int, int]) -> NoReturn:
    """In a fork: wait for a `Launch` from the keeper, then do as `main`. Ends with the keeper."""
    _leave_keeper(line, set())
    process.set_title("teul: standby", title_area)
    received = receive_message(line)
    if received is None:
        os._exit(0)
    main(line, *received, title_area)


def main(line: socket.socket, launch: Launch, descriptors: list[int], title_area: tuple[int, int]) -> NoReturn:
    """In a fork: start the process that `launch` describes, hand it to the keeper by `line`, and leave."""
    _leave_keeper(line, set(descriptors))
    process.set_title(f"teul: starter {launch['id'][:12]}", title_area)
    count = len(launch["joins"])
    donors, mounts = dict(zip(launch["joins"], descriptors[:count], strict=True)), descriptors[count:]
    start = _Start(launch, line, donors=donors, mounts=mounts, title_area=title_area)
    try:
        pid = start.run()
        failpoints.reach("keeper.start.executed")
        _say(line, {"started": pid})
        failpoints.reach("keeper.start.handed")
    except (OSError, StartFailed, ValueError) as error:
        report = _report(start.step, error)
        try:
            start.abandon()
        except OSError as second:
            report["message"] += f" (and its cgroup stays: {second})"
        try:
            _say(line, {"failed": report})
        except OSError:
            pass  # the keeper is gone: its engine has noticed
    os._exit(0)


def _leave_keeper(line: socket.socket, descriptors: set[int]) -> None:
    """Give up what is the keeper's alone: other containers' streams first of all, which must end when the keeper closes them."""
    process.close_all_but({line.fileno(), *descriptors})
    for number in (signal.SIGCHLD, signal.SIGINT, signal.SIGHUP):
        signal.signal(number, signal.SIG_DFL)
    gc.disable()
    process.set_name("teul-starter")


def _say(line: socket.socket, word: StarterWord, descriptors: list[int] | None = None) -> None:
    send_message(line, word, descriptors or [])


def _report(step: str, error: Exception) -> Failure:
    if isinstance(error, StartFailed):
        return {**error.report}
    number = error.errno if isinstance(error, OSError) else None
    return {"step": step, "errno": number, "message": str(error), "kind": "OSError"}


class _Start:
    """State while a process is being made."""

    def __init__(
        self, launch: Launch, line: socket.socket, *, donors: dict[Joined, int], mounts: list[int], title_area: tuple[int, int]
    ) -> None:
        self._title_area = title_area
        self._launch = launch
        self._line = line
        self._donors = donors
        self._mounts = mounts
        self._pid = 0
        self._pidfd = -1
        self._cgroup_made = False
        self.step = "start"

    def run(self) -> int:
        """Returns the pid once the program has begun; the keeper has the streams by then."""
        launch = self._launch
        terminal = launch["terminal"]
        near, far = ((-1, -1, -1), (-1, -1, -1)) if terminal else _pipes(with_input=launch["stdin"] != "null")
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        plan = launch["cgroup"]
        if plan and launch["kind"] == "create":
            self.step = "make the cgroup"
            cgroups.create(plan)  # undoes itself if it fails; a cgroup that was there before must not be removed
            self._cgroup_made = True
            failpoints.reach("keeper.start.cgroup")
        if launch["new_pids"]:
            self.step = "make the pid namespace"
            process.unshare(process.CLONE_NEWPID)
        if launch["joins"] or launch.get("runtime"):
            ours.setsockopt(socket.SOL_SOCKET, socket.SO_PASSCRED, 1)  # the last word tells who says it
        directory_fd = os.open(launch["directory"], os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
        self.step = "fork"
        self._pid = self._fork(plan)
        if self._pid == 0:
            # No descriptor of the starter's may live on in a child that takes its time: other processes wait to see it closed.
            process.close_all_but({theirs.fileno(), directory_fd, *self._donors.values(), *self._mounts, *far})
            # What the container's processes see of PID 1 before it execs (or for good, with --init) names nothing of the host.
            process.set_name("teul-init")
            process.set_title("teul-init", self._title_area)
            make = Delegate if launch.get("runtime") else Child
            make(launch, theirs, far, donors=self._donors, mounts=self._mounts).run(directory_fd)
        self._pidfd = process.open_pidfd(self._pid)  # before anything else can fail: what undoes the start must know the child
        failpoints.reach("keeper.start.forked")
        streams: dict[Role, int] = {role: fd for role, fd in zip(_PIPES, near, strict=True) if fd >= 0}
        _say(self._line, {"forked": self._pid, "streams": list(streams)}, list(streams.values()))
        failpoints.reach("keeper.start.announced")
        theirs.close()
        os.close(directory_fd)
        for fd in (*near, *far):
            if fd >= 0:
                os.close(fd)
        self._converse(ours)
        return self._pid

    def abandon(self) -> None:
        """Undo: end the child and remove its cgroup. The kernel removes links and mounts with the namespaces."""
        if self._pidfd >= 0:
            process.kill_and_wait(self._pidfd)
        elif self._pid:
            # No room for a descriptor. The keeper does not reap the child before it has heard this process to the end.
            os.kill(self._pid, signal.SIGKILL)
        plan = self._launch["cgroup"]
        if plan and self._cgroup_made:
            cgroups.remove(plan)

    def _fork(self, plan: cgroups.Plan | None) -> int:
        if not plan or not plan["unified_directory"]:
            return process.fork_sibling()
        if self._launch.get("runtime") and not plan["join"]:
            return process.fork_sibling()  # a runtime has its own size, which is not to count towards the container's limits
        cgroup_fd = os.open(plan["unified_directory"], os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            return process.fork_sibling(cgroup_fd)
        finally:
            os.close(cgroup_fd)

    def _make_links(self, sync: socket.socket) -> None:
        self.step = "make the network link"
        try:
            with Netlink() as host:
                for plan in self._launch["networks"]:
                    links.create_link(plan, self._pid, host)
            failpoints.reach("keeper.start.linked")
            if self._launch.get("resolver"):
                self._make_resolver()  # before the child is told to go on: its program may ask for names at once
            sync.send(b"network")
        except OSError:
            # If the child has failed meanwhile, its namespace is gone, and what it says is the cause.
            self._raise_child_failure(sync)
            raise

    def _make_resolver(self) -> None:
        self.step = "make the resolver's sockets"
        with being_inside(self._pidfd):
            sockets = open_resolver_sockets()
        try:
            _say(self._line, {"resolver": True}, list(sockets))
        finally:
            for fd in sockets:
                os.close(fd)

    @staticmethod
    def _raise_child_failure(sync: socket.socket) -> None:
        try:
            data = sync.recv(65536, socket.MSG_DONTWAIT)
        except BlockingIOError:
            return
        if data.startswith(b"{"):
            raise StartFailed(json.loads(data))

    def _converse(self, sync: socket.socket) -> None:
        """Serve the child until its exec closes `sync`. Raises `StartFailed` with what the child reports."""
        executed = False
        either = select.poll()
        either.register(sync.fileno(), select.POLLIN)
        either.register(self._line.fileno(), 0)
        while True:
            self.step = "start"
            if any(fd == self._line.fileno() for fd, _events in either.poll()):
                raise OSError(errno.EPIPE, "the keeper is gone")
            data, ancillary = hear(sync)
            if not data:
                break
            if data == b"exec":
                if not executed:
                    self._follow(ancillary)
                executed = True
            elif data == b"namespaces":
                if self._launch["networks"]:
                    self._make_links(sync)
            elif data == b"terminal":
                master_fd = _descriptor(ancillary)
                _say(self._line, {"streams": ["terminal"]}, [master_fd])
                os.close(master_fd)
            else:
                raise StartFailed(json.loads(data))
        sync.close()
        # A child killed on its way (by its own memory limit, say) closes `sync` as well, but without the last word.
        if not executed:
            raise StartFailed(_FAILED_WITHOUT_WORD)

    def _follow(self, ancillary: list[tuple[int, int, bytes]]) -> None:
        """The process that execs is the child, or, in a pid namespace that was joined, the one that the child has forked last of all.

        The kernel says who has sent the word, by a pid of our own namespace.
        """
        pid = next((_credentials.unpack(data)[0] for _level, kind, data in ancillary if kind == socket.SCM_CREDENTIALS), self._pid)
        if pid == self._pid:
            return
        os.close(self._pidfd)
        self._pid, self._pidfd = pid, process.open_pidfd(pid)
        _say(self._line, {"forked": pid})


def hear(sync: socket.socket) -> tuple[bytes, list[tuple[int, int, bytes]]]:
    """The child's next word and what rides along; no word if it has closed its end."""
    try:
        data, ancillary, _flags, _address = sync.recvmsg(65536, _ANCILLARY_ROOM, socket.MSG_CMSG_CLOEXEC)
    except ConnectionResetError:
        # kernel: said once, and ahead of the words that wait, of a child that ended before it read `network` (unix_release_sock).
        data, ancillary, _flags, _address = sync.recvmsg(65536, _ANCILLARY_ROOM, socket.MSG_CMSG_CLOEXEC)
    return data, ancillary


def _descriptor(ancillary: list[tuple[int, int, bytes]]) -> int:
    numbers = array.array("i")
    for _level, kind, data in ancillary:
        if kind == socket.SCM_RIGHTS:
            numbers.frombytes(data)
    return numbers[0]


def _pipes(*, with_input: bool) -> tuple[tuple[int, int, int], tuple[int, int, int]]:
    """Near and far ends of stdin, stdout and stderr; -1 stands for /dev/null."""
    in_read, in_write = os.pipe() if with_input else (-1, -1)
    out_read, out_write = os.pipe()
    err_read, err_write = os.pipe()
    return (in_write, out_read, err_read), (in_read, out_write, err_write)
