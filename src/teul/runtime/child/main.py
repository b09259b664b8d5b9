"""From a fork to the container's program: the two roads, `create` and `execute`, told in order.

Every step is named before it is taken. When one fails, its name, errno and text travel to the starter as one message on
`sync`, and the process ends. When all succeed, exec closes `sync`, and the starter reads its end.

Words on `sync` (SOCK_SEQPACKET): child to starter `namespaces` (they exist now), `terminal` (its master rides along), `exec` (the last
word of a success), or a JSON failure (`messages.Failure`); starter to child `network` when the links are there.
"""

from __future__ import annotations

import array
import errno
import json
import os
import resource
import signal
import socket
import stat
from typing import TYPE_CHECKING, NoReturn

from teul.linux import caps, cgroups, keyring, mounts, paths, process, pty, seccomp, users
from teul.linux.idmap import UserNamespace, map_owner
from teul.linux.imports import forbid_imports
from teul.linux.netlink import links
from teul.linux.netlink.socket import Netlink
from teul.runtime.child import init, program
from teul.runtime.child.rootfs import Rootfs

if TYPE_CHECKING:
    from typing import Any

    from teul.oci.runtime_spec import Capabilities, ExecExtension, ExecSpec, Extension, Mount, Namespace, Process, Rlimit, Spec
    from teul.runtime.messages import Failure, Joined, Launch

_NAMESPACES = {
    "mount": process.CLONE_NEWNS,
    "uts": process.CLONE_NEWUTS,
    "ipc": process.CLONE_NEWIPC,
    "network": process.CLONE_NEWNET,
    "cgroup": process.CLONE_NEWCGROUP,
    "time": process.CLONE_NEWTIME,
}
_EXEC_FAILED_STATUS = 255
_PROC_ROOT_INO = 1  # linux/proc_ns.h
_MESSAGE_CHARACTERS = 8192  # a message may quote what a client sent, and the line to the starter takes 64 KiB at once
_RLIMIT_LOCKS = 10  # asm-generic/resource.h; without effect since Linux 2.4, and unknown to Python, but Docker takes it


class Child:
    """One process on its way to exec."""

    def __init__(
        self, launch: Launch, sync: socket.socket, stdio: tuple[int, int, int], *, donors: dict[Joined, int], mounts: list[int]
    ) -> None:
        self._launch = launch
        self._donors = donors  # pidfds
        self._mounts = mounts  # those that the spec names by their number
        # Whose other processes would see this one: it joins their pid namespace last of all.
        self._joins_pids = "container" in donors or "pid" in donors
        self._sync = sync
        self._stdio = stdio
        self._host_netlink: Netlink | None = None
        self._label_fd = -1
        self.step = "start"

    def run(self, directory_fd: int) -> NoReturn:
        """Become the container's process; never returns."""
        try:
            forbid_imports()  # of whatever root this process is going to see
            if self._joins_pids:
                # What ends the container does not end this process, which is in no pid namespace of the container's yet. Fork clears it.
                process.prctl(process.PR_SET_PDEATHSIG, signal.SIGKILL)
            if self._launch["kind"] == "create":
                self._create(directory_fd)
            else:
                self._execute(directory_fd)
        except Exception as error:  # noqa: BLE001 - boundary: whatever it is, only the starter can tell anybody
            number = error.errno if isinstance(error, OSError) else None
            failure: Failure = {
                "step": self.step,
                "errno": number,
                "message": str(error)[:_MESSAGE_CHARACTERS],
                "kind": type(error).__name__,
            }
            self._sync.send(json.dumps(failure).encode())
        finally:
            os._exit(1)

    def _create(self, directory_fd: int) -> NoReturn:
        spec: Spec = self._read_config(directory_fd)
        networks = self._launch["networks"]
        new, joined = self._open_namespaces(spec["linux"]["namespaces"])
        extension: Extension = spec["teul"]
        bpf = self._read_filter(extension)

        self._prepare_self(spec["process"])
        self._join_keyring()
        sources = {destination: self._mounts[number] for destination, number in spec["teul"].get("sources", {}).items()}
        sources |= self._clone_foreign_mounts([mount for mount in spec.get("mounts") or [] if mount["destination"] not in sources])
        namespaces = {destination: UserNamespace() for destination in extension.get("idmaps", {})}  # while /proc is the host's
        self._join_cgroup()  # first, for a cgroup namespace begins where its maker is
        if networks:
            self._host_netlink = Netlink()  # a socket stays in the namespace it was opened in
        self.step = "enter namespaces"
        if "pid" in self._donors:
            process.setns(self._donors["pid"], process.CLONE_NEWPID)  # of what is forked from now on
        for fd, flag in joined:
            process.setns(fd, flag)
        process.unshare(new)
        if networks:
            self.step = "configure the network"
            links.prepare_inside(networks)
        self._sync.send(b"namespaces")
        os.umask(0)

        self.step = "mount the root file system"
        rootfs = Rootfs(spec)
        rootfs.mount_root(self._mounts)
        for mount in spec.get("mounts") or []:
            self.step = f"mount {mount['destination']}"
            namespace = namespaces.get(mount["destination"])
            if namespace is not None:
                sources[mount["destination"]] = self._map_ids(mount, sources.get(mount["destination"]), namespace, rootfs.fd, spec)
            rootfs.mount(mount, source_fd=sources.get(mount["destination"]))

        self.step = "make devices"
        rootfs.make_devices()
        terminal_fd = self._open_terminal(rootfs.fd) if self._launch["terminal"] else None
        if terminal_fd is not None:
            rootfs.bind_console(terminal_fd)

        self.step = "configure the network"
        self._configure_network(new)

        for name, value in (spec["linux"].get("sysctl") or {}).items():
            self.step = f"set sysctl {name}"
            rootfs.write_sysctl(name, value)

        self.step = "set the host name"
        if new & process.CLONE_NEWUTS:
            process.set_hostname(spec.get("hostname") or "")
            domain_name = spec.get("domainname")
            if domain_name:
                process.set_domainname(domain_name)

        self.step = "hide paths"
        rootfs.hide()
        self.step = "enter the root file system"
        rootfs.enter()
        self.step = "set the working directory"
        _make_directories(spec["process"]["cwd"])
        self.step = "enter the root file system"
        rootfs.make_read_only()
        self._become(spec["process"], extension, bpf, terminal_fd)

    @staticmethod
    def _map_ids(mount: Mount, source_fd: int | None, namespace: UserNamespace, root_fd: int, spec: Spec) -> int:
        """The source of a bind, opened, and showing the ids that the container is to see."""
        fd = mounts.clone_tree(mount["source"], recursive="rbind" in mount["options"]) if source_fd is None else source_fd
        ranges = spec["teul"]["idmaps"][mount["destination"]]
        try:
            if ranges["uids"]:
                namespace.apply(fd, ranges["uids"], ranges["gids"])
            else:
                who = resolve_user(root_fd, spec["process"], spec["teul"])
                map_owner(namespace, fd, who.uid, who.gid)
        except OSError as error:
            if error.errno not in (errno.EINVAL, errno.EPERM):
                raise
            raise OSError(error.errno, f"the file system of `{mount['source']}` cannot show other owners (idmap)") from error
        namespace.close()
        return fd

    def _execute(self, directory_fd: int) -> NoReturn:
        spec: ExecSpec = self._read_config(directory_fd)
        request = spec["process"]
        extension: ExecExtension = spec["teul"]
        bpf = self._read_filter(extension)
        self._prepare_self(request)
        self._join_keyring()
        self._join_cgroup()
        self.step = "enter the container's namespaces"
        process.setns(
            self._donors["container"],
            process.CLONE_NEWPID  # of what is forked from now on
            | process.CLONE_NEWNS
            | process.CLONE_NEWUTS
            | process.CLONE_NEWIPC
            | process.CLONE_NEWNET
            | process.CLONE_NEWCGROUP,
        )
        root_fd = os.open("/", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
        terminal_fd = self._open_terminal(root_fd) if self._launch["terminal"] else None
        os.umask(0)
        self._become(request, extension, bpf, terminal_fd)

    def _read_config(self, directory_fd: int) -> Any:
        self.step = "read config.json"
        with open(os.open("config.json", os.O_RDONLY | os.O_CLOEXEC, dir_fd=directory_fd), "rb") as file:
            return json.load(file)

    def _open_namespaces(self, namespaces: list[Namespace]) -> tuple[int, list[tuple[int, int]]]:
        """Flags of the namespaces to make, and opened (descriptor, flag) of those to join. A new pid namespace is the starter's affair."""
        new, joined = 0, []
        for namespace in namespaces:
            flag = _NAMESPACES.get(namespace["type"], 0)
            self.step = f"open {namespace['type']} namespace"
            if not flag:
                continue
            path = namespace.get("path")
            if namespace["type"] in ("network", "ipc") and namespace["type"] in self._donors:
                joined.append((self._donors[namespace["type"]], flag))
            elif path:
                joined.append((os.open(path, os.O_RDONLY | os.O_CLOEXEC), flag))
            else:
                new |= flag
        return new, joined

    def _clone_foreign_mounts(self, wanted: list[Mount]) -> dict[str, int]:
        """Detached copies, by destination, of binds' sources that must be taken before the container's mount namespace is made.

        That is those that are shared with the host: made in a namespace of slaves, a copy would hear of the host's mounts, but the host
        not of the copy's.
        And the /proc of a pid namespace that is joined, which only a process of that namespace could mount, and the /dev/shm that goes with
        an IPC namespace, which is in its container's mount namespace only.
        """
        clones: dict[str, int] = {}
        for mount in wanted:
            words = mount.get("options") or ()
            if mount.get("type") == "proc" and "pid" in self._donors:
                self.step = f"open the source of {mount['destination']}"
                clones[mount["destination"]] = self._clone_donors_proc()
            elif "ipc" in self._donors and _is_donors_shm(mount):
                self.step = f"open the source of {mount['destination']}"
                clones[mount["destination"]] = self._clone_donors_shm()
            elif mount.get("type") in (None, "bind") and ("rshared" in words or "shared" in words):
                self.step = f"open the source of {mount['destination']}"
                clones[mount["destination"]] = mounts.clone_tree(mount["source"], recursive="rbind" in words)
        return clones

    def _clone_donors_proc(self) -> int:
        """security: not by mounting it in there: that would take a process with every privilege, in sight of the donor's."""
        proc_fd = _clone_of(self._donors["pid"], "/proc")
        if mounts.filesystem_type(proc_fd) != mounts.PROC_SUPER_MAGIC or os.fstat(proc_fd).st_ino != _PROC_ROOT_INO:
            raise OSError(errno.ENOTSUP, "the container whose processes are to be joined has no /proc of its own at `/proc`")
        return proc_fd

    def _clone_donors_shm(self) -> int:
        shm_fd = _clone_of(self._donors["ipc"], "/dev/shm")
        if mounts.filesystem_type(shm_fd) != mounts.TMPFS_MAGIC:
            raise OSError(errno.ENOTSUP, "the container whose IPC namespace is to be joined has no memory at `/dev/shm`")
        return shm_fd

    def _prepare_self(self, request: Process) -> None:
        """Do what goes through /proc/self while /proc is still the host's.

        security: what a container has at /proc may be a fake, and a label written there would label nothing (CVE-2019-16884).
        """
        adjustment = request.get("oomScoreAdj")
        if adjustment is not None:
            self.step = "set oom_score_adj"
            _write("/proc/self/oom_score_adj", str(adjustment))
        self.step = "open the label's file"
        if request.get("apparmorProfile"):
            self._label_fd = os.open("/proc/self/attr/apparmor/exec", os.O_WRONLY | os.O_CLOEXEC)
        elif request.get("selinuxLabel"):
            self._label_fd = os.open("/proc/self/attr/exec", os.O_WRONLY | os.O_CLOEXEC)

    def _join_keyring(self) -> None:
        """security: not the engine's session keyring, whose keys everything in it may read."""
        self.step = "join the session keyring"
        keyring.join_session_keyring(self._launch["keyring"])

    def _read_filter(self, extension: ExecExtension) -> bytes | None:
        self.step = "read the seccomp filter"
        path = extension.get("seccomp_bpf")
        if not path:
            return None
        with open(path, "rb") as file:
            return file.read()

    def _await(self, word: bytes) -> None:
        received = self._sync.recv(64)
        if received != word:
            os._exit(1)  # the starter gave up and knows why

    def _join_cgroup(self) -> None:
        self.step = "join the cgroup"
        plan = self._launch["cgroup"]
        if plan:
            cgroups.join(plan, unified=False)  # the child was born in the unified cgroup

    def _configure_network(self, new: int) -> None:
        networks = self._launch["networks"]
        if networks:
            self._await(b"network")
            links.configure_inside(networks, self._host_netlink)
        elif new & process.CLONE_NEWNET:
            links.set_loopback_up()

    def _open_terminal(self, root_fd: int) -> int:
        self.step = "open a terminal"
        pts_fd = paths.open_in_root(root_fd, "/dev/pts", os.O_PATH | os.O_DIRECTORY)
        master_fd, slave_fd, _number = pty.open_pair("ptmx", dir_fd=pts_fd)
        os.close(pts_fd)
        if self._launch["rows"]:
            pty.set_size(slave_fd, self._launch["rows"], self._launch["columns"])
        self._sync.sendmsg([b"terminal"], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", [master_fd]))])
        os.close(master_fd)
        return slave_fd

    def _become(self, request: Process, extension: ExecExtension, bpf: bytes | None, terminal_fd: int | None) -> NoReturn:
        self.step = "set labels"
        self._set_label(request)
        self.step = "set the standard streams"
        self._set_stdio(terminal_fd)
        # security: close before chdir, or a working directory of /proc/self/fd/N could lead to the host (CVE-2024-21626).
        self.step = "close descriptors"
        process.close_all_but({self._sync.fileno()})

        self.step = "set resource limits"
        for limit in request.get("rlimits") or []:
            _set_rlimit(limit)
        self.step = "find the user"
        root_fd = os.open("/", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
        who = resolve_user(root_fd, request, extension)
        os.close(root_fd)
        env = dict(item.partition("=")[::2] for item in request.get("env") or [])
        if not env.get("HOME"):
            env["HOME"] = who.home
        self._own_stdio(who.uid)

        self.step = "set the working directory"
        entered = _change_directory(request["cwd"])

        self.step = "drop privileges"
        forks_last = bpf is None or extension.get("seccomp_forks", False)
        if self._joins_pids and not forks_last:
            self._appear_early(request, terminal=terminal_fd is not None)
        wanted: Capabilities = request.get("capabilities") or {}
        caps.drop_bounding(wanted.get("bounding") or [])
        no_new_privileges = bool(request.get("noNewPrivileges"))
        if bpf is not None and not no_new_privileges:
            seccomp.install_filter(bpf, extension.get("seccomp_flags", 0))  # needs CAP_SYS_ADMIN, which goes next
        process.prctl(process.PR_SET_KEEPCAPS, 1)
        os.setgroups(who.groups)
        os.setresgid(who.gid, who.gid, who.gid)
        os.setresuid(who.uid, who.uid, who.uid)
        process.prctl(process.PR_SET_KEEPCAPS, 0)
        if not entered:
            self.step = "set the working directory"
            os.chdir(request["cwd"])
        self.step = "find the program"
        arguments: list[str] = request["args"]
        path = program.find(arguments[0], env)
        self.step = "drop privileges"
        _set_capabilities(wanted)
        os.umask(request["user"].get("umask") or 0o022)
        if no_new_privileges:
            process.prctl(process.PR_SET_NO_NEW_PRIVS, 1)
            if bpf is not None:
                seccomp.install_filter(bpf, extension.get("seccomp_flags", 0))
        if self._joins_pids and forks_last:
            self._appear(terminal=terminal_fd is not None)
        if extension.get("init"):
            init.become_init(self._sync, terminal=terminal_fd is not None)
        _exec(path, arguments, env, self._sync)

    def _set_stdio(self, terminal_fd: int | None) -> None:
        stdio = (terminal_fd,) * 3 if terminal_fd is not None else self._stdio
        for number, fd in enumerate(stdio):
            if fd < 0:
                null_fd = _open_null()
                os.dup2(null_fd, number)
                if null_fd > 2:
                    os.close(null_fd)
            else:
                os.dup2(fd, number)
        if not self._joins_pids:
            _start_session(terminal=terminal_fd is not None)

    def _appear(self, *, terminal: bool) -> None:
        """Go on in a fork inside the pid namespace that was joined; the process so far ends.

        security: the others in there see this process from now on, and one with CAP_SYS_PTRACE may do with it as it likes. It is what the
        program will be: the user, capabilities and filter are set, and of descriptors there are the standard streams and the line
        to the starter (a fork's memory is the interpreter's, which knows the program's arguments and environment).
        """
        self.step = "enter the pid namespace"
        if process.fork_sibling_under_filter():
            os._exit(0)
        _start_session(terminal=terminal)

    def _appear_early(self, request: Process, *, terminal: bool) -> None:
        """As `_appear`, before the privileges are dropped, where a filter lets nobody fork.

        security: only in a container without CAP_SYS_PTRACE: there nobody can look into this process, which cannot be dumped.
        """
        if "CAP_SYS_PTRACE" in (request.get("capabilities") or {}).get("bounding", []):
            raise OSError(errno.EPERM, "the seccomp profile does not let a process be started in a container with CAP_SYS_PTRACE")
        self._appear(terminal=terminal)

    def _set_label(self, request: Process) -> None:
        if self._label_fd >= 0:
            profile = request.get("apparmorProfile")
            os.write(self._label_fd, (f"exec {profile}" if profile else request.get("selinuxLabel", "")).encode())

    def _own_stdio(self, uid: int) -> None:
        """A program that reopens /dev/stdout must be allowed to: give the streams to its user, as runc does."""
        for number, fd in enumerate(self._stdio):
            if fd >= 0 or self._launch["terminal"]:
                os.fchown(number, uid, -1)


def _is_donors_shm(mount: Mount) -> bool:
    source = mount.get("source") or ""
    return source.startswith("/proc/") and source.endswith("/root/dev/shm")


def _clone_of(donor: int, path: str) -> int:
    """A detached copy of the mount at `path` in the mount namespace of the process behind a pidfd."""
    ours_fd = os.open("/proc/self/ns/mnt", os.O_RDONLY | os.O_CLOEXEC)
    process.setns(donor, process.CLONE_NEWNS)
    try:
        return mounts.clone_tree(path)
    finally:
        process.setns(ours_fd, process.CLONE_NEWNS)
        os.close(ours_fd)


def resolve_user(root_fd: int, request: Process, extension: ExecExtension) -> users.ResolvedUser:
    """Who the process is to be, by the files below `root_fd`. Raises `UserError`."""
    numbers = request["user"]
    name = extension.get("user")
    if name is not None:
        who = users.resolve(root_fd, name, extension.get("groups") or [])
        who.groups = list(dict.fromkeys([*who.groups, *(numbers.get("additionalGids") or [])]))
        return who
    who = users.resolve(root_fd, str(numbers.get("uid") or 0), [])
    return users.ResolvedUser(who.uid, numbers.get("gid") or 0, numbers.get("additionalGids") or [], who.home)


def _set_capabilities(wanted: Capabilities) -> None:
    caps.set_capabilities(
        effective=wanted.get("effective") or [],
        permitted=wanted.get("permitted") or [],
        inheritable=wanted.get("inheritable") or [],
        ambient=wanted.get("ambient") or [],
    )


def _make_directories(path: str) -> None:
    """Make the directory `path` and those above it that are missing, 0755. Raises `ProgramError`, in the words of Go's os.MkdirAll,
    and `UserError` for what is there and no directory, which dockerd finds out itself (daemon/container, SetupWorkingDirectory).

    From the top and without recursion: the path may have more components than Python has room for, or the kernel.
    """
    if os.path.isdir(path):
        return
    if os.path.exists(path):
        raise users.UserError(f"Cannot mkdir: {path} is not a directory")
    os.umask(0o022)
    end = 0
    while end < len(path):
        following = path.find("/", end + 1)
        end = following if following > 0 else len(path)
        directory = path[:end]
        if os.path.isdir(directory):
            continue
        try:
            os.mkdir(directory, 0o755)
        except OSError as error:
            if os.path.isdir(directory):
                continue  # on a volume, another container was faster
            number = errno.ENOTDIR if os.path.exists(directory) else error.errno or 0
            raise program.ProgramError(f"mkdir {directory}: {os.strerror(number).lower()}") from error


def _change_directory(path: str) -> bool:
    """Enter `path`; False when root may not but the user might. Raises `OSError`."""
    try:
        os.chdir(path)
    except PermissionError:
        return False
    except OSError as error:
        reason = os.strerror(error.errno or 0).lower()
        raise program.ProgramError(f'chdir to cwd ("{path}") set in config.json failed: {reason}') from error
    # security: a directory outside of the process's root shows as "(unreachable)…" (CVE-2024-21626).
    if not os.getcwd().startswith("/"):
        raise FileNotFoundError(2, f"current working directory `{path}` is outside of container mount namespace root")
    return True


def _set_rlimit(limit: Rlimit) -> None:
    name = limit["type"]
    kind = _RLIMIT_LOCKS if name == "RLIMIT_LOCKS" else getattr(resource, name, None)
    if kind is None:
        raise OSError(errno.EINVAL, f"unknown resource limit {name}")
    soft, hard = (resource.RLIM_INFINITY if value in (-1, 2**64 - 1) else value for value in (limit["soft"], limit["hard"]))
    try:
        resource.setrlimit(kind, (soft, hard))
    except (ValueError, OverflowError, OSError) as error:
        _, ours = resource.getrlimit(kind)
        if ours == resource.RLIM_INFINITY or 0 <= hard <= ours:
            raise OSError(errno.EINVAL, f"error setting rlimit type {kind}: {name} {soft}:{hard}: {error}") from error
        raise OSError(
            errno.EPERM,
            f"error setting rlimit type {kind}: {name} {hard} is above the engine's own limit ({ours}): operation not permitted",
        ) from error


def _open_null() -> int:
    """The container's /dev/null. security: whatever else the container has put there is not opened while we still have privileges."""
    path_fd = os.open("/dev/null", os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        _check_null(path_fd)
    finally:
        os.close(path_fd)
    # It may have been exchanged since, and /proc/self/fd, by which a descriptor could be opened anew, is the container's.
    fd = os.open("/dev/null", os.O_RDWR | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC)
    try:
        _check_null(fd)
    except OSError:
        os.close(fd)
        raise
    return fd


def _check_null(fd: int) -> None:
    status = os.fstat(fd)
    if not stat.S_ISCHR(status.st_mode) or status.st_rdev != os.makedev(1, 3):
        raise OSError(errno.ENXIO, "`/dev/null` is not the null device")


def _start_session(*, terminal: bool) -> None:
    if terminal:
        pty.make_controlling(0)
    else:
        os.setsid()


def _write(path: str, text: str) -> None:
    fd = os.open(path, os.O_WRONLY)
    try:
        os.write(fd, text.encode())
    finally:
        os.close(fd)


def _exec(path: str, arguments: list[str], env: dict[str, str], sync: socket.socket) -> NoReturn:
    for number in signal.valid_signals() - {signal.SIGKILL, signal.SIGSTOP}:
        if signal.getsignal(number) != signal.SIG_DFL:
            signal.signal(number, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_SETMASK, [])
    try:
        sync.send(b"exec")
        os.execve(path, arguments, env)
    except OSError as error:
        # As runc: the container has started by now, so its own stderr and exit code say what happened.
        sync.close()
        os.write(2, f"exec {path}: {os.strerror(error.errno or 0).lower()}\n".encode())
        os._exit(_EXEC_FAILED_STATUS)
