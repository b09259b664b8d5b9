"""The options of `run` and `create` to the body of `POST /containers/create`.

Pure but for the files that options name. What docker's client refuses is refused here, with its texts: as `UsageError` where docker
notices while parsing options, as `ValueError` where it notices later.
"""

from __future__ import annotations

from teul.cli.errors import UsageError
from teul.cli.options.keyvalues import parse_environment, parse_labels, to_dictionary
from teul.cli.options.values import is_ip_address

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from typing import Any, TypeVar

    from teul.cli.options.parser import Options

    T = TypeVar("T")
    Document = dict[str, Any]

_STREAMS = ("stdin", "stdout", "stderr")

# (option, key) pairs that go over as they are, when they are given.
_TEXTS = (
    ("cgroup-parent", "CgroupParent"),
    ("cidfile", "ContainerIDFile"),
    ("cgroupns", "CgroupnsMode"),
    ("cpuset-cpus", "CpusetCpus"),
    ("cpuset-mems", "CpusetMems"),
    ("ipc", "IpcMode"),
    ("pid", "PidMode"),
    ("runtime", "Runtime"),
    ("userns", "UsernsMode"),
    ("uts", "UTSMode"),
    ("volume-driver", "VolumeDriver"),
)
_NUMBERS = (
    ("blkio-weight", "BlkioWeight"),
    ("cpu-period", "CpuPeriod"),
    ("cpu-quota", "CpuQuota"),
    ("cpu-rt-period", "CpuRealtimePeriod"),
    ("cpu-rt-runtime", "CpuRealtimeRuntime"),
    ("cpu-shares", "CpuShares"),
    ("cpus", "NanoCpus"),
    ("memory", "Memory"),
    ("memory-reservation", "MemoryReservation"),
    ("memory-swap", "MemorySwap"),
    ("oom-score-adj", "OomScoreAdj"),
    ("shm-size", "ShmSize"),
)
_LISTS = (
    ("cap-add", "CapAdd"),
    ("cap-drop", "CapDrop"),
    ("dns", "Dns"),
    ("dns-option", "DnsOptions"),
    ("dns-search", "DnsSearch"),
    ("egress", "Egress"),
    ("group-add", "GroupAdd"),
    ("link", "Links"),
    ("volumes-from", "VolumesFrom"),
)
_FLAGS = (("privileged", "Privileged"), ("publish-all", "PublishAllPorts"), ("read-only", "ReadonlyRootfs"), ("rm", "AutoRemove"))


def build_config(options: Options, arguments: list[str], environment: Mapping[str, str]) -> Document:
    """The request for a container of image `arguments[0]` with the command that follows it."""
    config = _process_config(options, arguments, environment)
    host_config = _host_config(options)
    if options.texts("volume"):
        from teul.cli.creation.mounts import parse_volumes

        host_config["Binds"], config["Volumes"] = parse_volumes(options.texts("volume"))
    if options.texts("publish") or options.texts("expose"):
        from teul.cli.creation.ports import parse_expose, parse_publish

        host_config["PortBindings"] = parse_publish(options.texts("publish"))
        config["ExposedPorts"] = {port: {} for port in host_config["PortBindings"]} | parse_expose(options.texts("expose"))
    if config["OpenStdin"] and config["AttachStdin"]:
        config["StdinOnce"] = True
    endpoints = _endpoints(options, host_config)
    return {**config, "HostConfig": host_config, "NetworkingConfig": {"EndpointsConfig": endpoints}}


def checked(options: Options, name: str, parse: Callable[[str], T], *, spelling: str = "") -> list[T]:
    """The values of a repeated option, parsed; the refusal of a value is a `UsageError` as the option parser's own."""
    parsed: list[T] = []
    for text in options.texts(name):
        try:
            parsed.append(parse(text))
        except ValueError as error:
            spelling = spelling or {"env": "-e, --env", "label": "-l, --label", "attach": "-a, --attach"}.get(name, f"--{name}")
            quoted = text.replace("\\", "\\\\").replace('"', '\\"')
            raise UsageError(f'invalid argument "{quoted}" for "{spelling}" flag: {error}') from None
    return parsed


def _process_config(options: Options, arguments: list[str], environment: Mapping[str, str]) -> Document:
    streams = checked(options, "attach", _parse_stream)
    config: Document = {
        "Hostname": options.text("hostname"),
        "Domainname": options.text("domainname"),
        "User": options.text("user"),
        "AttachStdin": "stdin" in streams or options.flag("interactive"),
        "AttachStdout": not streams or "stdout" in streams,
        "AttachStderr": not streams or "stderr" in streams,
        "Tty": options.flag("tty"),
        "OpenStdin": options.flag("interactive"),
        "StdinOnce": False,
        "Env": _environment(options, environment),
        "Cmd": arguments[1:] or None,
        "Image": arguments[0],
        "WorkingDir": options.text("workdir"),
        "Entrypoint": None,
        "Labels": parse_labels(options.texts("label"), options.texts("label-file")),
    }
    if options.given("entrypoint"):
        # docker: an empty entrypoint is sent as one empty word and takes the image's away.
        config["Entrypoint"] = [options.text("entrypoint")]
    if options.text("stop-signal"):
        config["StopSignal"] = options.text("stop-signal")
    if options.given("stop-timeout"):
        config["StopTimeout"] = options.number("stop-timeout")
    health = _health(options)
    if health is not None:
        config["Healthcheck"] = health
    return config


def _environment(options: Options, environment: Mapping[str, str]) -> list[str]:
    checked(options, "env", lambda text: parse_environment([text], [], environment))
    return parse_environment(options.texts("env"), options.texts("env-file"), environment)


def _parse_stream(text: str) -> str:
    if text.lower() not in _STREAMS:
        raise ValueError("valid streams are STDIN, STDOUT and STDERR")
    return text.lower()


def _health(options: Options) -> Document | None:
    names = ("interval", "timeout", "start-period", "start-interval", "retries")
    numbers = {name: options.number(f"health-{name}") for name in names}
    command = options.text("health-cmd")
    if options.flag("no-healthcheck"):
        if command or any(numbers.values()):
            raise ValueError("--no-healthcheck conflicts with --health-* options")
        return {"Test": ["NONE"]}
    if not command and not any(numbers.values()):
        return None
    for name, value in numbers.items():
        if value < 0:
            raise ValueError(f"--health-{name} cannot be negative")
    return {
        "Test": ["CMD-SHELL", command] if command else None,
        "Interval": numbers["interval"],
        "Timeout": numbers["timeout"],
        "StartPeriod": numbers["start-period"],
        "StartInterval": numbers["start-interval"],
        "Retries": numbers["retries"],
    }


def _host_config(options: Options) -> Document:
    host: Document = {key: options.text(name) for name, key in _TEXTS if options.text(name)}
    host |= {key: options.number(name) for name, key in _NUMBERS if options.number(name)}
    host |= {key: options.texts(name) for name, key in _LISTS if options.texts(name)}
    host |= {key: True for name, key in _FLAGS if options.flag(name)}
    swappiness = options.number("memory-swappiness")
    if not -1 <= swappiness <= 100:
        raise ValueError(f"invalid value: {swappiness}. Valid memory swappiness range is 0-100")
    host["MemorySwappiness"] = swappiness
    host["OomKillDisable"] = options.flag("oom-kill-disable")
    host["PidsLimit"] = options.number("pids-limit")
    host["RestartPolicy"] = parse_restart_policy(options.text("restart"))
    if options.flag("rm") and host["RestartPolicy"]["Name"] not in ("", "no"):
        raise ValueError("conflicting options: cannot specify both --restart and --rm")
    if options.given("init"):
        host["Init"] = options.flag("init")
    host |= _repeated(options)
    host["LogConfig"] = {"Type": options.text("log-driver"), "Config": to_dictionary(options.texts("log-opt"))}
    if options.text("log-driver") == "none" and options.texts("log-opt"):
        raise ValueError("invalid logging opts for driver none")
    return host


def _repeated(options: Options) -> Document:
    """The options that are parsed value by value; their parsers are loaded, and the options sent, only when they are given."""
    host: Document = {}
    if options.texts("add-host"):
        host["ExtraHosts"] = checked(options, "add-host", parse_extra_host)
    if options.texts("annotation"):
        host["Annotations"] = to_dictionary(options.texts("annotation"))
    if options.texts("device"):
        from teul.cli.creation.devices import is_cdi_name, parse_device

        host["Devices"] = [parse_device(text) for text in options.texts("device") if not is_cdi_name(text)]
        if names := [text for text in options.texts("device") if is_cdi_name(text)]:
            host["DeviceRequests"] = [{"Driver": "cdi", "Count": 0, "DeviceIDs": names, "Capabilities": None, "Options": None}]
    if options.texts("device-cgroup-rule"):
        from teul.cli.creation.devices import parse_cgroup_rule

        host["DeviceCgroupRules"] = checked(options, "device-cgroup-rule", parse_cgroup_rule)
    host |= _block_io(options)
    if options.texts("mount"):
        from teul.cli.creation.mounts import parse_mount

        host["Mounts"] = checked(options, "mount", parse_mount)
    if options.texts("security-opt"):
        host |= parse_security_options(options.texts("security-opt"))
    if options.texts("storage-opt"):
        if not all("=" in text for text in options.texts("storage-opt")):
            raise ValueError("invalid storage option")
        host["StorageOpt"] = to_dictionary(options.texts("storage-opt"))
    if options.texts("sysctl"):
        host["Sysctls"] = to_dictionary(checked(options, "sysctl", parse_sysctl))
    if options.texts("tmpfs"):
        from teul.cli.creation.mounts import parse_tmpfs

        host["Tmpfs"] = parse_tmpfs(options.texts("tmpfs"))
    if options.texts("ulimit"):
        limits = {limit["Name"]: limit for limit in checked(options, "ulimit", parse_ulimit)}
        host["Ulimits"] = [limits[name] for name in sorted(limits)]
    return host


def _block_io(options: Options) -> Document:
    rows = (
        ("blkio-weight-device", "BlkioWeightDevice"),
        ("device-read-bps", "BlkioDeviceReadBps"),
        ("device-read-iops", "BlkioDeviceReadIOps"),
        ("device-write-bps", "BlkioDeviceWriteBps"),
        ("device-write-iops", "BlkioDeviceWriteIOps"),
    )
    given = [(name, key) for name, key in rows if options.texts(name)]
    if not given:
        return {}
    from teul.cli.creation.devices import parse_rate_iops, parse_throttle_bps, parse_weight_device

    parsers = {"blkio-weight-device": parse_weight_device, "device-read-bps": parse_throttle_bps, "device-write-bps": parse_throttle_bps}
    return {key: checked(options, name, parsers.get(name, parse_rate_iops)) for name, key in given}


def parse_restart_policy(text: str) -> Document:
    """`on-failure:3` as the API's RestartPolicy."""
    name, colon, count = text.partition(":")
    if colon and not name:
        raise ValueError("invalid restart policy format: no policy provided before colon")
    try:
        retries = int(count or "0")
    except ValueError:
        raise ValueError("invalid restart policy format: maximum retry count must be an integer") from None
    return {"Name": name, "MaximumRetryCount": retries}


def parse_extra_host(text: str) -> str:
    """`host=address` or `host:address` as `host:address`, which is all that the API knows."""
    name, separator, address = text.partition("=") if "=" in text else text.partition(":")
    if not separator or not name or ":" in name:
        raise ValueError(f'bad format for add-host: "{text}"')
    if address != "host-gateway":
        if len(address) > 2 and address[0] == "[" and address[-1] == "]":
            address = address[1:-1]
        if not is_ip_address(address):
            raise ValueError(f'invalid IP address in add-host: "{address}"')
    return f"{name}:{address}"


def parse_sysctl(text: str) -> str:
    name, equals, _ = text.partition("=")
    known = ("msgmax", "msgmnb", "msgmni", "sem", "shmall", "shmmax", "shmmni", "shm_rmid_forced")
    if not equals or not (name.startswith(("net.", "fs.mqueue.")) or name in [f"kernel.{word}" for word in known]):
        raise ValueError(f"sysctl '{text}' is not allowed")
    return text


_ULIMITS = frozenset(
    (
        "core",
        "cpu",
        "data",
        "fsize",
        "locks",
        "memlock",
        "msgqueue",
        "nice",
        "nofile",
        "nproc",
        "rss",
        "rtprio",
        "rttime",
        "sigpending",
        "stack",
    )
)


def parse_ulimit(text: str) -> Document:
    """`nofile=1024:2048` as the API's Ulimit; one number is both limits, -1 is none."""
    name, equals, limits = text.partition("=")
    if not equals:
        raise ValueError(f"invalid ulimit argument: {text}")
    if name not in _ULIMITS:
        raise ValueError(f"invalid ulimit type: {name}")
    values: list[int] = []
    for word in limits.split(":"):
        try:
            values.append(int(word))
        except ValueError:
            raise ValueError(f'strconv.ParseInt: parsing "{word}": invalid syntax') from None
    if len(values) > 2:
        raise ValueError(f"too many limit value arguments - {limits}, can only have up to two, `soft[:hard]`")
    soft, hard = values[0], values[-1]
    if hard != -1 and (soft == -1 or soft > hard):
        shown = f"soft: -1 (unlimited), hard: {hard}" if soft == -1 else f"{soft} > {hard}"
        raise ValueError(f"ulimit soft limit must be less than or equal to hard limit: {shown}")
    return {"Name": name, "Soft": soft, "Hard": hard}


def parse_security_options(values: list[str]) -> Document:
    """SecurityOpt, with the content of a seccomp profile for its file, and the paths that `systempaths=unconfined` opens."""
    host: Document = {"SecurityOpt": []}
    for text in values:
        name, separator, value = text.partition("=")
        if not separator and name != "no-new-privileges":
            name, separator, value = text.partition(":")
        if not value and name != "no-new-privileges":
            raise ValueError(f'invalid --security-opt: "{text}"')
        if text == "systempaths=unconfined":
            host |= {"MaskedPaths": [], "ReadonlyPaths": []}
        elif name == "seccomp" and value not in ("unconfined", "builtin"):
            host["SecurityOpt"].append(f"seccomp={_read_profile(value)}")
        else:
            host["SecurityOpt"].append(text)
    return host


def _read_profile(path: str) -> str:
    from teul.wire.jsontext import InvalidJson, decode, encode

    try:
        with open(path, "rb") as file:
            return encode(decode(file.read())).decode()
    except OSError as error:
        reason = error.strerror.lower() if error.strerror else str(error)
        raise ValueError(f"opening seccomp profile ({path}) failed: open {path}: {reason}") from None
    except InvalidJson as error:
        raise ValueError(f"compacting json for seccomp profile ({path}) failed: {error}") from None


def _endpoints(options: Options, host_config: Document) -> Document:
    """The endpoints that the user asked for, by network; sets the network mode."""
    given = ("network", "link", "network-alias", "link-local-ip", "ip", "ip6", "mac-address")
    if not any(options.given(name) for name in given):
        host_config["NetworkMode"] = "default"
        return {}
    from teul.cli.creation.networks import build_endpoints, check_link, check_mac_address, parse_network

    parsed = checked(options, "network", parse_network)
    checked(options, "link", check_link)
    if options.text("mac-address"):
        check_mac_address(options.text("mac-address"))
    host_config["NetworkMode"] = parsed[0]["Target"] if parsed else "default"
    return build_endpoints(
        parsed,
        {name: options.text(name) for name in ("ip", "ip6", "mac-address")},
        aliases=options.texts("network-alias"),
        links=options.texts("link"),
        link_local=options.texts("link-local-ip"),
    )
