"""The road to a container's program where another OCI runtime is to make it: all that such a runtime cannot do is done before.

An OCI runtime wants a root file system that is mounted, and sources of mounts that have paths. Ours are descriptors, and nothing is
mounted on the host. So this process enters a mount namespace of its own, mounts there what the runtime needs, makes and configures the
container's network namespace, writes a config.json without Teul's words, and runs the runtime. The container's first process is the
runtime's child; when the runtime has ended it is the keeper's, which is the next subreaper, and from then on it is like any other.
This process tells the starter its pid and ends, and its mount namespace with it: what the container has mounted it has from the runtime.

What is the runtime's: all namespaces but the network's, devices, the user, capabilities, seccomp, labels, limits. The
cgroup is ours: made before, with its limits, which the runtime sets again.
"""

from __future__ import annotations

import array
import json
import os
import socket
import stat
import struct
from typing import TYPE_CHECKING, NoReturn

from teul.linux import mounts, process, pty, users
from teul.linux.idmap import UserNamespace
from teul.linux.netlink import links
from teul.linux.netlink.socket import Netlink
from teul.runtime.child.invocation import RuntimeRefusal, hide_unified_cgroups, invoke
from teul.runtime.child.main import Child, resolve_user
from teul.runtime.child.rootfs import Rootfs
from teul.store.atomic import write_new_file

if TYPE_CHECKING:
    from typing import Any

    from teul.oci.runtime_spec import ExecSpec, Mount, Namespace, Process, Spec
    from teul.runtime.messages import Delegation

_credentials = struct.Struct("=3i")  # linux/socket.h, struct ucred: pid, uid, gid
_OCI_VERSION = "1.0.2"  # what is said is in all versions of the spec, and runtimes refuse those that are newer than they are
_OURS = "dest-nofollow"  # a word of Teul's own among the options of mounts


class Delegate(Child):
    """One process that has a runtime make another, and then ends."""

    def _create(self, directory_fd: int) -> NoReturn:
        spec: Spec = self._read_config(directory_fd)
        networks = self._launch["networks"]
        bundle = f"{self._launch['directory']}/oci"
        self._join_keyring()
        own_network = any(each["type"] == "network" and not each.get("path") for each in spec["linux"]["namespaces"])
        joined = [self._open_donors(each) for each in spec["linux"]["namespaces"]]
        sources = self._take_sources(spec)
        id_maps = {destination: UserNamespace() for destination in spec["teul"].get("idmaps", {})}  # while /proc is the host's
        if networks:
            self._host_netlink = Netlink()  # a socket stays in the namespace it was opened in
        self.step = "enter namespaces"
        hosts_network_fd = os.open("/proc/self/ns/net", os.O_RDONLY | os.O_CLOEXEC)
        process.unshare(process.CLONE_NEWNS | (process.CLONE_NEWNET if own_network else 0))
        if networks:
            self.step = "configure the network"
            links.prepare_inside(networks)
        self._sync.send(b"namespaces")
        os.umask(0o022)

        self.step = "mount the root file system"
        rootfs = Rootfs(spec)
        rootfs.mount_root(self._mounts)
        hide_unified_cgroups()
        os.makedirs(f"{bundle}/mounts", 0o700)
        prepared: list[Mount] = []
        for number, mount in enumerate(spec.get("mounts") or []):
            self.step = f"mount {mount['destination']}"
            source_fd = sources.get(mount["destination"])
            if (namespace := id_maps.get(mount["destination"])) is not None:
                source_fd = self._map_ids(mount, source_fd, namespace, rootfs.fd, spec)
            prepared.append(_with_path(mount, source_fd, f"{bundle}/mounts/{number}"))

        self.step = "configure the network"
        self._configure_network(process.CLONE_NEWNET if own_network else 0)
        if own_network:
            joined = [_of_this_process(each) for each in joined]
            # A runtime takes the network namespace that it runs in for the host's, whose parameters it sets for no container.
            process.setns(hosts_network_fd, process.CLONE_NEWNET)

        self.step = "find the user"
        document: dict[str, Any] = {name: value for name, value in spec.items() if name != "teul"}
        document["process"] = _plain_process(spec["process"], resolve_user(rootfs.fd, spec["process"], spec["teul"]))
        document["mounts"] = prepared
        document["linux"] = {**spec["linux"], "namespaces": joined, "resources": _plain_resources(spec["linux"].get("resources") or {})}
        document["ociVersion"] = _OCI_VERSION
        self.step = "write config.json"
        write_new_file(f"{bundle}/config.json", json.dumps(document).encode(), durable=False)
        pid = self._run("create", ["--bundle", bundle], bundle)
        self._call("start", [], bundle)
        self._leave(pid)

    def _execute(self, directory_fd: int) -> NoReturn:
        spec: ExecSpec = self._read_config(directory_fd)
        directory = self._launch["directory"]
        self.step = "find the user"
        root_fd = process.open_root(self._donors["container"])
        plain = _plain_process(spec["process"], resolve_user(root_fd, spec["process"], spec["teul"]))
        os.close(root_fd)
        self.step = "write process.json"
        write_new_file(f"{directory}/process.json", json.dumps(plain).encode(), durable=False)
        self.step = "enter namespaces"
        process.unshare(process.CLONE_NEWNS)
        mounts.set_propagation("/", mounts.MS_SLAVE | mounts.MS_REC)
        hide_unified_cgroups()
        self._leave(self._run("exec", ["--detach", "--process", f"{directory}/process.json"], directory))

    def _take_sources(self, spec: Spec) -> dict[str, int]:
        """Detached mounts by destination: those that came with the launch, and those that are to be cloned while the host's are here.

        A /proc needs none: the runtime mounts it in the pid namespace that it joins.
        """
        sources = {destination: self._mounts[number] for destination, number in spec["teul"].get("sources", {}).items()}
        others = [each for each in spec.get("mounts") or [] if each["destination"] not in sources and each.get("type") != "proc"]
        return sources | self._clone_foreign_mounts(others)

    def _open_donors(self, namespace: Namespace) -> Namespace:
        """The namespace with a path that leads to it for as long as this process lives."""
        path = namespace.get("path")
        if not path:
            return namespace
        self.step = f"open {namespace['type']} namespace"
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        donor = self._donors.get(namespace["type"])  # type: ignore[call-overload]
        if donor is not None and process.is_ending(donor):
            # security: its number may be another process's by now, and so what was opened.
            raise ProcessLookupError(3, "the container whose namespace is to be joined has ended")
        return {"type": namespace["type"], "path": f"/proc/{os.getpid()}/fd/{fd}"}

    def _run(self, verb: str, words: list[str], directory: str) -> int:
        """Have the runtime make a process; returns its pid. The terminal, if it has one, is the starter's then."""
        terminal = self._launch["terminal"]
        pid_file, console = f"{directory}/pid", None
        words = [*words, "--pid-file", pid_file]
        if terminal:
            console, path = _listen(directory)
            words += ["--console-socket", path]
        self._call(verb, words, directory)
        self.step = f"{verb} the container"
        if console is not None:
            self._pass_terminal(console)
        with open(pid_file, encoding="ascii") as file:
            return int(file.read())

    def _call(self, verb: str, words: list[str], directory: str) -> None:
        self.step = verb
        delegation: Delegation = self._launch["runtime"]
        invoke(delegation, [verb, *words, delegation["container"]], log=f"{directory}/runtime.log", stdio=self._stdio)

    def _pass_terminal(self, console: socket.socket) -> None:
        console.setblocking(False)  # the runtime has ended: what it has not sent by now never comes
        try:
            with console.accept()[0] as connection:
                _data, received, _flags, _address = connection.recvmsg(4096, socket.CMSG_SPACE(4), socket.MSG_CMSG_CLOEXEC)
        except BlockingIOError:
            raise RuntimeRefusal("the runtime has sent no terminal") from None
        finally:
            console.close()
        numbers = array.array("i")
        for _level, _kind, data in received:
            numbers.frombytes(data)
        if not numbers:
            raise RuntimeRefusal("the runtime has sent no terminal")
        if self._launch["rows"]:
            pty.set_size(numbers[0], self._launch["rows"], self._launch["columns"])
        self._sync.sendmsg([b"terminal"], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, numbers)])

    def _leave(self, pid: int) -> NoReturn:
        """The last word, in the name of the process that stays."""
        self._sync.sendmsg([b"exec"], [(socket.SOL_SOCKET, socket.SCM_CREDENTIALS, _credentials.pack(pid, os.getuid(), os.getgid()))])
        os._exit(0)


def _of_this_process(namespace: Namespace) -> Namespace:
    """A network namespace without a path is the one that this process has made, and goes by a path that stays."""
    if namespace["type"] != "network":
        return namespace
    fd = os.open("/proc/self/ns/net", os.O_RDONLY | os.O_CLOEXEC)
    return {"type": "network", "path": f"/proc/{os.getpid()}/fd/{fd}"}


def _plain_process(request: Process, who: users.ResolvedUser) -> Process:
    """The process with numbers for its user, and a HOME, as the child gives it to a program of its own."""
    plain: Process = {**request}
    plain["user"] = {"uid": who.uid, "gid": who.gid, "additionalGids": [group for group in who.groups if group != who.gid]}
    if not any(item.startswith("HOME=") and item != "HOME=" for item in request["env"]):
        plain["env"] = [*(item for item in request["env"] if not item.startswith("HOME=")), f"HOME={who.home}"]
    return plain


def _plain_resources(resources: dict[str, Any]) -> dict[str, Any]:
    """Device rules without the number -1, which for runc means any, as an absent one does for everybody."""
    rules = [{name: value for name, value in rule.items() if value != -1} for rule in resources.get("devices") or []]
    return {**resources, "devices": rules}


def _with_path(mount: Mount, source_fd: int | None, place: str) -> Mount:
    """The entry in plain OCI; a source that is a descriptor gets a path, in this process's mount namespace."""
    options = [word for word in mount.get("options") or [] if word != _OURS]
    if source_fd is None:
        return {**mount, "options": options}
    if stat.S_ISDIR(os.fstat(source_fd).st_mode):
        os.mkdir(place, 0o700)
    else:
        os.mknod(place, stat.S_IFREG | 0o600)
    mounts.attach_at(source_fd, place)
    os.close(source_fd)
    return {**mount, "type": "bind", "source": place, "options": options}


def _listen(directory: str) -> tuple[socket.socket, str]:
    """A socket for the runtime to send a terminal by, and its path: by way of a descriptor, for a socket's path may have 107 bytes only."""
    directory_fd = os.open(directory, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    path = f"/proc/{os.getpid()}/fd/{directory_fd}/console.sock"
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    listener.bind(path)
    listener.listen(1)
    return listener, path
