"""The first process of a virtual machine: prepares a pure cgroup v2 system, runs one command, writes down how it ended, powers off.

The kernel starts it as `python guest.py JOB`, with the host's root read-only at `/`. JOB is a directory on that root with `job.json`
(see `machine.Job`); what the command prints goes to `output` in it and its exit status to `status`, through a writable mount of
that one directory. Runs on the standard library alone and leaves the machine by power-off in every case: the harness takes a missing
`status` for a failed boot.

The system the command sees: the host's files under a tmpfs overlay (so that nothing it does reaches the host), new /proc, /sys and
/dev/shm, cgroup2 alone at /sys/fs/cgroup with every controller enabled, and empty places for what is made here (FRESH): they are
tmpfs, since an overlay cannot stand on the overlay that the root is. `visible` paths below them (a project in /tmp) stay.
"""

import contextlib
import ctypes
import json
import os
import select
import subprocess
import sys
import traceback
from typing import Any

# sys/mount.h, linux/reboot.h
MS_RDONLY = 1
MS_NOSUID = 2
MS_NODEV = 4
MS_BIND = 4096
MS_MOVE = 8192
MS_REC = 16384
RB_POWER_OFF = 0x4321FEDC

FRESH = ("/run", "/tmp", "/var/tmp", "/var/lib/teul")

WHO_ASKS = ("/lib64/ld-linux-x86-64.so.2", "/bin/busybox", "/usr/lib/x86_64-linux-gnu/libcrypto.so.3")

_libc = ctypes.CDLL(None, use_errno=True)


def main() -> None:
    console_fd = os.open("/dev/console", os.O_RDWR | os.O_NOCTTY)
    for fd in range(3):
        os.dup2(console_fd, fd)
    try:
        _run(sys.argv[1])
    except BaseException:  # noqa: BLE001 - boundary: a first process that ends takes the kernel down with it
        traceback.print_exc()
    os.sync()
    _libc.reboot(RB_POWER_OFF)


def _run(job_path: str) -> None:
    with open(f"{job_path}/job.json", encoding="utf-8") as file:
        job = json.load(file)
    mount("proc", "/proc", "proc")
    load_modules(job["modules_path"], ["overlay"])
    enter_overlay()
    if job["without_vectors"]:
        hide_vectors()
    results_path = "/vm/results"
    os.makedirs(results_path)
    mount(job["results_source"], results_path, job["results_type"], options=job["results_options"])
    mount_system()
    mount_fresh(job["visible"])
    link_modules(job["modules_path"])
    load_modules(job["modules_path"], job["modules"])
    for command in (["ip", "link", "set", "lo", "up"], *job["network_commands"]):
        subprocess.run(command, check=True, stdin=subprocess.DEVNULL)
    status = run_command(job, f"{results_path}/output")
    with open(f"{results_path}/status.new", "w", encoding="ascii") as file:
        file.write(f"{status}\n")
        file.flush()
        os.fsync(file.fileno())
    os.rename(f"{results_path}/status.new", f"{results_path}/status")


def mount(source: str, target: str, kind: str, *, flags: int = 0, options: str = "") -> None:
    if _libc.mount(source.encode(), target.encode(), kind.encode(), ctypes.c_ulong(flags), options.encode()) < 0:
        number = ctypes.get_errno()
        raise OSError(number, f"mount {kind} `{target}`: {os.strerror(number)}")


def enter_overlay() -> None:
    """Put a tmpfs over the read-only root and make that the root. The mounts the kernel gave us (/proc, /dev) come along."""
    mount("tmpfs", "/run", "tmpfs")
    for name in ("upper", "work", "root"):
        os.mkdir(f"/run/{name}")
    mount("overlay", "/run/root", "overlay", options="lowerdir=/,upperdir=/run/upper,workdir=/run/work")
    if not os.path.ismount("/dev"):
        mount("devtmpfs", "/dev", "devtmpfs")
    for name in ("proc", "dev"):
        mount(f"/{name}", f"/run/root/{name}", "", flags=MS_MOVE)
    os.chdir("/run/root")
    mount(".", "/", "", flags=MS_MOVE)
    os.chroot(".")
    os.chdir("/")


def hide_vectors() -> None:
    """Have programs find that this machine keeps no vector registers, which is true of it (see small_xstate.py).

    Who asks does it with XGETBV, right after CPUID said that there is one; in its place they clear the register that has the answer.
    An environment variable would not reach the processes that are started with an environment of their own.
    """
    xgetbv, no_answer = bytes.fromhex("0f01d0"), bytes.fromhex("31c090")  # xor %eax,%eax; nop
    for path in WHO_ASKS:
        real = os.path.realpath(path)
        if not os.path.exists(real):
            continue
        with open(real, "rb") as file:
            program = file.read()
        with open(f"{real}.new", "wb") as file:
            file.write(program.replace(xgetbv, no_answer))
        os.chmod(f"{real}.new", 0o755)
        os.rename(f"{real}.new", real)  # what is running goes on with the old one


def mount_system() -> None:
    quiet = MS_NOSUID | MS_NODEV
    for name in ("pts", "shm", "mqueue"):
        os.makedirs(f"/dev/{name}", exist_ok=True)
    for source, target, options in (
        ("sysfs", "/sys", ""),
        ("cgroup2", "/sys/fs/cgroup", ""),
        ("devpts", "/dev/pts", "ptmxmode=666,mode=620,gid=5"),
        ("mqueue", "/dev/mqueue", ""),
        ("tmpfs", "/dev/shm", ""),
    ):
        os.makedirs(target, exist_ok=True)
        mount(source, target, source, flags=0 if source == "devpts" else quiet, options=options)
    # kernel: the root cgroup is exempt from the "no internal processes" rule, so init may stay in it.
    with open("/sys/fs/cgroup/cgroup.controllers", encoding="ascii") as file:
        controllers = file.read().split()
    with open("/sys/fs/cgroup/cgroup.subtree_control", "w", encoding="ascii") as file:
        file.write(" ".join(f"+{name}" for name in controllers))


def mount_fresh(visible: list[str]) -> None:
    """Put a tmpfs on every place of FRESH, and what must stay visible back into it."""
    below = [path for path in dict.fromkeys(visible) if path.startswith(tuple(f"{place}/" for place in FRESH))]
    kept = [(path, os.open(path, os.O_PATH)) for path in below]
    for place in FRESH:
        os.makedirs(place, exist_ok=True)
        mount("tmpfs", place, "tmpfs", flags=MS_NOSUID, options="mode=1777" if place.endswith("tmp") else "mode=755")
    for path, fd in kept:
        os.makedirs(path, exist_ok=True)
        mount(f"/proc/self/fd/{fd}", path, "", flags=MS_BIND | MS_REC)
        os.close(fd)


def link_modules(modules_path: str) -> None:
    """Let the kernel's own `modprobe` find its modules, for what it loads on demand."""
    os.makedirs("/lib/modules", exist_ok=True)
    with contextlib.suppress(FileExistsError):
        os.symlink(modules_path, f"/lib/modules/{os.uname().release}")


def load_modules(modules_path: str, names: list[str]) -> None:
    """Load modules and what they depend on. A name that the kernel has built in, or does not have, is passed over."""
    dependencies = read_dependencies(modules_path)
    for name in names:
        for path in dependencies.get(name, []):
            with contextlib.suppress(FileExistsError):
                _load_module(f"{modules_path}/{path}")


def read_dependencies(modules_path: str) -> dict[str, list[str]]:
    """Module names to the files to load for them, in that order (modules.dep lists a module's whole closure, the nearest first)."""
    dependencies = {}
    with open(f"{modules_path}/modules.dep", encoding="ascii") as file:
        for line in file:
            path, _, needs = line.partition(":")
            name = os.path.basename(path).partition(".")[0].replace("-", "_")
            dependencies[name] = [*reversed(needs.split()), path]
    return dependencies


def _load_module(path: str) -> None:
    numbers = {"x86_64": 313, "aarch64": 273}  # asm/unistd.h, finit_module
    with open(path, "rb") as file:
        if _libc.syscall(numbers[os.uname().machine], file.fileno(), b"", 0) < 0:
            number = ctypes.get_errno()
            raise OSError(number, f"finit_module `{path}`: {os.strerror(number)}")


def run_command(job: dict[str, Any], output_path: str) -> int:
    """Run the job's command, its output into the file as it comes, and reap every orphan beside it. Returns its exit status."""
    read_fd, write_fd = os.pipe()
    process = subprocess.Popen(
        job["command"],
        cwd=job["directory"],
        env={**job["environment"], "TEUL_IN_VM": job["kind"]},
        stdin=subprocess.DEVNULL,
        stdout=write_fd,
        stderr=write_fd,
        start_new_session=True,
    )
    os.close(write_fd)
    with open(output_path, "wb", buffering=0) as output:
        while True:
            # A time-out too: something that the command left behind may hold the pipe open for ever.
            readable = select.select([read_fd], [], [], 0.2)[0]
            data = os.read(read_fd, 65536) if readable else b""
            if data:
                output.write(data)
                os.fsync(output.fileno())  # the host reads along
                continue
            status = _reap(process.pid, wait=bool(readable))
            if status is not None:
                return status


def _reap(pid: int, *, wait: bool) -> int | None:
    """Collect dead children; the exit status of `pid` once it is among them. With `wait`, not before that (its output is at an end)."""
    while True:
        try:
            dead, status = os.waitpid(-1, 0 if wait else os.WNOHANG)
        except ChildProcessError:
            return None
        if dead == pid:
            code = os.waitstatus_to_exitcode(status)
            return code if code >= 0 else 128 - code
        if dead == 0:
            return None


if __name__ == "__main__":
    main()
