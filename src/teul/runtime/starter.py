"""The monitor's first act: make the process it will guard.

While the child builds its root, the monitor makes the network link beside it, so that on two processors the slower of the two
decides.
"""

from __future__ import annotations

import array
import json
import os
import signal
import socket

from teul.linux import cgroups, netlink, process
from teul.runtime.child.main import Child

_FAILED_WITHOUT_WORD = {"step": "start", "errno": None, "message": "the process ended before it could be started", "kind": "OSError"}


class StartFailed(Exception):
    """Nothing was started; `report` says which step failed and why."""

    def __init__(self, report: dict) -> None:  # type: ignore[type-arg]
        super().__init__(report.get("message"))
        self.report = report


class Started:
    """A running process and the near ends of its streams."""

    def __init__(self, pid: int, *, pidfd: int, input_fd: int, outputs: list[tuple[int, int]], terminal: bool) -> None:
        self.pid = pid
        self.pidfd = pidfd
        self.input_fd = input_fd
        self.outputs = outputs
        self.terminal = terminal
        self.start_time = process.started_at(pid)
        self.status_fd = -1

    def wait(self) -> int | None:
        """The wait status of the ended process; None when nobody could keep it."""
        if self.status_fd < 0:
            return os.waitpid(self.pid, 0)[1]
        # Taken over: the spawner reaps it as its subreaper and says the status; else the kernel may remember.
        word = os.read(self.status_fd, 16)
        return int(word) if word else process.exit_status_of(self.pid, self.pidfd)


def start(message: dict, descriptors: list[int], title_area: tuple[int, int]) -> Started:  # type: ignore[type-arg]
    """Make what `message` asks for. Raises `StartFailed`; then nothing is left of it."""
    if message["kind"] == "resume":
        return _resume(message, descriptors)
    launch = _Launch(message, pidfd=descriptors[0] if message["kind"] == "exec" else -1, title_area=title_area)
    try:
        return launch.run()
    except OSError as error:
        launch.abandon()
        raise StartFailed({"step": launch.step, "errno": error.errno, "message": str(error), "kind": "OSError"}) from error
    except StartFailed:
        launch.abandon()
        raise


def _resume(message: dict, descriptors: list[int]) -> Started:  # type: ignore[type-arg]
    """Go on where a killed monitor stopped, with the descriptors that the engine kept."""
    pidfd, status_fd, *kept = descriptors
    streams = dict(zip(message["kept"], kept, strict=True))
    if "terminal" in streams:
        input_fd, outputs = streams["terminal"], [(streams["terminal"], 1)]
    else:
        input_fd = streams.get("stdin", -1)
        outputs = [(streams[name], stream) for name, stream in (("stdout", 1), ("stderr", 2)) if name in streams]
    started = Started(message["pid"], pidfd=pidfd, input_fd=input_fd, outputs=outputs, terminal="terminal" in streams)
    started.status_fd = status_fd
    return started


class _Launch:
    """State while a process is being made."""

    def __init__(self, message: dict, *, pidfd: int, title_area: tuple[int, int]) -> None:  # type: ignore[type-arg]
        self._title_area = title_area
        self._message = message
        self._container_pidfd = pidfd
        self._pid = 0
        self._master_fd = -1
        self._cgroup_made = False
        self.step = "start"

    def run(self) -> Started:
        message = self._message
        terminal = bool(message["terminal"])
        near, far = ((-1, -1, -1), (-1, -1, -1)) if terminal else _pipes(with_input=message["stdin"] != "null")
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        plan = message.get("cgroup")
        if plan and message["kind"] == "create":
            self.step = "make the cgroup"
            cgroups.create(plan)  # undoes itself; one that is not ours must not be removed
            self._cgroup_made = True
        self.step = "enter the pid namespace"
        self._enter_pid_namespace()
        directory_fd = os.open(message["directory"], os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
        self.step = "fork"
        self._pid = self._fork(plan)
        if self._pid == 0:
            ours.close()
            # What the container's processes see of PID 1 before it execs (or for good, with --init) names nothing of the host.
            process.set_name("teul-init")
            process.set_title("teul-init", self._title_area)
            Child(message, theirs, far).run(directory_fd, self._container_pidfd)
        theirs.close()
        os.close(directory_fd)
        for fd in far:
            if fd >= 0:
                os.close(fd)
        pidfd = process.open_pidfd(self._pid)
        self._converse(ours)
        if terminal:
            return Started(self._pid, pidfd=pidfd, input_fd=self._master_fd, outputs=[(self._master_fd, 1)], terminal=True)
        outputs = [(near[1], 1), (near[2], 2)]
        return Started(self._pid, pidfd=pidfd, input_fd=near[0], outputs=outputs, terminal=False)

    def abandon(self) -> None:
        """Undo: end the child and remove its cgroup. The kernel removes links and mounts with the namespaces."""
        if self._pid > 0:
            os.kill(self._pid, signal.SIGKILL)
            os.waitpid(self._pid, 0)
        if self._cgroup_made:
            cgroups.remove(self._message["cgroup"])

    def _enter_pid_namespace(self) -> None:
        if self._message["kind"] == "exec":
            process.setns(self._container_pidfd, process.CLONE_NEWPID)
            return
        wanted = self._message.get("pid_namespace")
        if wanted == "new":
            process.unshare(process.CLONE_NEWPID)
        elif wanted:
            fd = os.open(wanted, os.O_RDONLY | os.O_CLOEXEC)
            process.setns(fd, process.CLONE_NEWPID)
            os.close(fd)

    def _fork(self, plan: dict | None) -> int:  # type: ignore[type-arg]
        if not plan or not plan["unified_directory"]:
            return os.fork()
        cgroup_fd = os.open(plan["unified_directory"], os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            return process.fork_into_cgroup(cgroup_fd)
        finally:
            os.close(cgroup_fd)

    def _make_link(self, network: dict, sync: socket.socket) -> None:  # type: ignore[type-arg]
        self.step = "make the network link"
        try:
            netlink.create_veth(network, self._pid)
            sync.send(b"network")
        except OSError:
            # If the child has failed meanwhile, its namespace is gone, and what it says is the cause.
            self._raise_child_failure(sync)
            raise

    @staticmethod
    def _raise_child_failure(sync: socket.socket) -> None:
        try:
            data = sync.recv(65536, socket.MSG_DONTWAIT)
        except BlockingIOError:
            return
        if data.startswith(b"{"):
            raise StartFailed(json.loads(data))

    def _converse(self, sync: socket.socket) -> None:
        """Serve the child until its exec closes the line. Raises `StartFailed` with what it reports."""
        executed = False
        while True:
            self.step = "start"
            data, ancillary, _flags, _address = sync.recvmsg(65536, socket.CMSG_LEN(4), socket.MSG_CMSG_CLOEXEC)
            if not data:
                break
            if data == b"exec":
                executed = True
            elif data == b"namespaces":
                network = self._message.get("network")
                if network:
                    self._make_link(network, sync)
            elif data == b"terminal":
                numbers = array.array("i")
                numbers.frombytes(ancillary[0][2])
                self._master_fd = numbers[0]
            else:
                raise StartFailed(json.loads(data))
        sync.close()
        # A child killed on its way (by its own memory limit, say) closes the line as well, but without the last word.
        if not executed:
            raise StartFailed(_FAILED_WITHOUT_WORD)


def _pipes(*, with_input: bool) -> tuple[tuple[int, int, int], tuple[int, int, int]]:
    """Near and far ends of stdin, stdout and stderr; -1 stands for /dev/null."""
    in_read, in_write = os.pipe() if with_input else (-1, -1)
    out_read, out_write = os.pipe()
    err_read, err_write = os.pipe()
    return (in_write, out_read, err_read), (in_read, out_write, err_write)
