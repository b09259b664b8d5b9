"""`teul system install`, `uninstall` and `stop`: Teul's own engine as a service of systemd, and its end. docker has no such commands."""

from __future__ import annotations

import os
import sys

from teul.cli.command import Command
from teul.cli.endpoint import default_run_root
from teul.cli.errors import CliError
from teul.cli.options.parser import BOOL, Option

TYPE_CHECKING = False
if TYPE_CHECKING:
    from teul.cli.context import Context
    from teul.cli.options.parser import Options

_UNIT_DIRECTORY = "/etc/systemd/system"
_SYSTEMD_RUNS = "/run/systemd/system"  # sd_booted(3)
_STOP_SECONDS = 30.0
_IDLE_SECONDS = 300


def socket_unit(*, paths: list[str], group: str) -> str:
    """teul.socket: systemd holds the sockets, so that whoever connects starts the engine. `group` is "" for root's alone."""
    listening = "\n".join(f"ListenStream={path}" for path in paths)
    owner = f"SocketGroup={group}\n" if group else ""
    return (
        "[Unit]\nDescription=Sockets of Teul's engine, which speaks the Docker API\n\n"
        f"[Socket]\n{listening}\nSocketMode=0660\nSocketUser=root\n{owner}\n"
        "[Install]\nWantedBy=sockets.target\n"
    )


def service_unit(interpreter: str) -> str:
    """teul.service: an engine that leaves when it is idle, and whose containers outlive it."""
    return (
        "[Unit]\nDescription=Teul container engine\nRequires=teul.socket\nAfter=teul.socket network.target local-fs.target\n\n"
        f"[Service]\nExecStart={interpreter} -P -m teul serve --idle-timeout {_IDLE_SECONDS}\nRestart=on-failure\n"
        # Containers and their keeper go on when the engine ends.
        "KillMode=process\nDelegate=yes\n"
        "LimitNOFILE=1048576\nLimitNPROC=infinity\nLimitCORE=infinity\nTasksMax=infinity\n\n"
        # Containers with a restart policy are started at boot, before anybody connects.
        "[Install]\nWantedBy=multi-user.target\n"
    )


def install(context: Context, options: Options, _arguments: list[str]) -> int:
    destination = options.text("destination")
    if not destination and not os.path.isdir(_SYSTEMD_RUNS):
        raise CliError("systemd does not run here: use --destination DIR to write the units for another system")
    paths = ["/run/teul/docker.sock", *(["/run/docker.sock"] if options.flag("docker-socket") else [])]
    texts = {"teul.socket": socket_unit(paths=paths, group=_docker_group()), "teul.service": service_unit(sys.executable)}
    directory = destination + _UNIT_DIRECTORY
    try:
        os.makedirs(directory, exist_ok=True)
        for name, text in texts.items():
            with open(os.path.join(directory, name), "w", encoding="utf-8") as file:
                file.write(text)
            context.streams.print(os.path.join(directory, name))
    except OSError as error:
        raise CliError(f"cannot write {error.filename}: {error.strerror}") from None
    if not destination:
        stop_engine(default_run_root(context.environment, 0))  # systemd makes its sockets at the same place
        _systemctl("daemon-reload")
        _systemctl("enable", "teul.service")
        _systemctl("enable", "--now", "teul.socket")
    return 0


def uninstall(context: Context, options: Options, _arguments: list[str]) -> int:
    destination = options.text("destination")
    directory = destination + _UNIT_DIRECTORY
    present = [name for name in ("teul.socket", "teul.service") if os.path.exists(os.path.join(directory, name))]
    if not present:
        raise CliError(f"there are no units of Teul's in {directory}")
    if not destination:
        _systemctl("disable", "--now", *present)
    for name in present:
        os.unlink(os.path.join(directory, name))
        context.streams.print(os.path.join(directory, name))
    if not destination:
        _systemctl("daemon-reload")
    return 0


def _docker_group() -> str:
    from grp import getgrnam

    try:
        return getgrnam("docker").gr_name
    except KeyError:
        return ""


def _systemctl(*arguments: str) -> None:
    import subprocess

    done = subprocess.run(["systemctl", *arguments], capture_output=True, text=True, check=False)
    if done.returncode:
        raise CliError(f"systemctl {' '.join(arguments)}: {done.stderr.strip() or f'exit code {done.returncode}'}")


def stop(context: Context, _options: Options, _arguments: list[str]) -> int:
    endpoint = context.endpoint
    if not endpoint.own:
        raise CliError(f"only Teul's own engine can be stopped, and {endpoint.address} is another one")
    run_root = endpoint.run_root or default_run_root(context.environment, 0)
    context.streams.print("Stopped" if stop_engine(run_root) else "No engine runs")
    return 0


def stop_engine(run_root: str) -> bool:
    """End the engine of `run_root`, or its door; containers go on. False when there is neither. Raises `CliError`."""
    import select
    from signal import SIGTERM, pidfd_send_signal

    pid = _holder(run_root)
    if not pid:
        return False
    try:
        pidfd = os.pidfd_open(pid)
    except ProcessLookupError:
        return False
    try:
        pidfd_send_signal(pidfd, SIGTERM)
        poller = select.poll()
        poller.register(pidfd, select.POLLIN)
        if not poller.poll(_STOP_SECONDS * 1000):
            raise CliError(f"the engine, process {pid}, does not end")
    except ProcessLookupError:
        return True
    except PermissionError:
        raise CliError(f"permission denied: the engine, process {pid}, is root's") from None
    finally:
        os.close(pidfd)
    return True


def _holder(run_root: str) -> int:
    """The process that has the run root's lock, or its sockets; 0 for nobody."""
    import fcntl

    try:
        with open(os.path.join(run_root, "lock"), encoding="ascii") as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
            except BlockingIOError:
                return int(lock.read().strip() or 0)
        with open(os.path.join(run_root, "door"), encoding="utf-8") as record:
            pid, start_time = record.readline().split()
        with open(f"/proc/{pid}/stat", encoding="ascii", errors="replace") as status:  # proc_pid_stat(5), field 22
            return int(pid) if status.read().rpartition(")")[2].split()[19] == start_time else 0
    except FileNotFoundError:
        return 0
    except PermissionError as error:
        raise CliError(f"permission denied: {error.filename} is root's") from None


_DESTINATION = Option("destination", "string", "Directory that stands for / (for packages and images); systemd is not told then")

INSTALL = Command(
    "install [OPTIONS]",
    "Have systemd start the engine when somebody connects, and at boot",
    install,
    options=(_DESTINATION, Option("docker-socket", BOOL, "Listen on /run/docker.sock as well, where docker looks first")),
    maximum=0,
)
UNINSTALL = Command("uninstall [OPTIONS]", "Take the engine's units from systemd", uninstall, options=(_DESTINATION,), maximum=0)
STOP = Command("stop", "Stop Teul's own engine, or what holds its sockets; containers go on", stop, maximum=0)
