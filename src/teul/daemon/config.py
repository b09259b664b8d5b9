"""The engine's configuration: a command line in, one frozen object out."""

from __future__ import annotations

import argparse
import hashlib
import ipaddress
import os
from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from teul.daemon.address_pools import parse_pool
from teul.daemon.default_bridge import add_options, parse_default_bridge
from teul.daemon.disk_reserve import DEFAULT_RESERVE_BYTES
from teul.daemon.runtimes import add_options as add_runtime_options
from teul.daemon.runtimes import parse_runtimes
from teul.errors import InvalidParameter
from teul.model.host_config import LogConfig
from teul.model.runtime import OWN_ONLY, Runtimes
from teul.model.size import parse_memory
from teul.network.default_bridge import AS_USUAL, DefaultBridge
from teul.network.ipam import Pool
from teul.network.ports.relays import RELAY, TRANSLATE, PublishedPorts
from teul.plugins.discovery import PluginDirectories
from teul.registry.proxies import Proxies
from teul.services.containers.request.log_drivers import JSON_FILE, check_log_config

_DEFAULT_ROOT = "/var/lib/teul"
_DEFAULT_RUN = "/run/teul"
# docker: the ports of an address that names none.
_PORT = 2375
_TLS_PORT = 2376
# What new layers become: indexed archives, unpacked directories, or indexed where the host mounts them.
AUTO, EROFS, DIRECTORY = "auto", "erofs", "directory"
_KEEP, _DROP = "keep", "drop"


CDI_DIRECTORIES = ("/etc/cdi", "/var/run/cdi")
# Where the certificates of registries are, a directory for each host: Teul's own, and those that are there for Docker.
CERTIFICATE_DIRECTORIES = ("/etc/teul/certs.d", "/etc/docker/certs.d")


@dataclass(frozen=True, slots=True, kw_only=True)
class TlsFiles:
    """Paths of the engine's certificate and key. With `verify` a client must show a certificate that the one in `ca` has signed."""

    ca: str
    cert: str
    key: str
    verify: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class EngineConfig:
    """`hosts` are the addresses to listen on; with `idle_timeout_seconds` None the engine stays until it is told to stop."""

    root: str
    run_root: str
    hosts: tuple[str, ...]
    idle_timeout_seconds: float | None = None
    on_demand: bool = False  # started by a command, whose limits, cgroups and the like are no affair of the engine's
    finds_listeners: bool = False  # systemd has made the sockets, and keeps them
    debug: bool = False
    snapshotter: str = AUTO
    registry_mirrors: tuple[str, ...] = ()
    insecure_registries: tuple[str, ...] = ()
    certificate_directories: tuple[str, ...] = CERTIFICATE_DIRECTORIES
    proxies: Proxies = field(default_factory=Proxies)
    keeps_compressed: bool = True  # the blob of a layer whose uncompressed archive is kept is kept as well
    default_bridge: DefaultBridge = AS_USUAL
    published_ports: PublishedPorts = TRANSLATE  # what is done with those of networks that do not say
    address_pools: tuple[Pool, ...] = ()  # what networks get subnets of that ask for none; () for Docker's
    keep_generations: int = 1  # so many former generations of a renewed container can be gone back to
    disk_reserve_bytes: int = DEFAULT_RESERVE_BYTES  # nothing new is taken when less is free
    plugin_directories: PluginDirectories = field(default_factory=PluginDirectories)
    runtimes: Runtimes = OWN_ONLY
    log_defaults: LogConfig = field(default_factory=lambda: LogConfig(type=JSON_FILE))  # of containers that do not say
    cdi_directories: tuple[str, ...] = CDI_DIRECTORIES
    tls: TlsFiles | None = None  # on every TCP address; None: plain HTTP

    def with_listeners(self, addresses: tuple[str, ...]) -> EngineConfig:
        """This configuration for an engine that finds its sockets at `addresses`, as systemd has made them. Raises `InvalidParameter`.

        security: what systemd was told to listen at is held to the same rule as `-H` is, unless `-H` says the same address.
        """
        for address in addresses:
            if address not in self.hosts:
                check_host(address, tls=self.tls)
        return replace(self, hosts=addresses, finds_listeners=True)

    @property
    def is_default_root(self) -> bool:
        """Whether this engine's cgroups, bridge and tables have the plain names, without a suffix that tells engines apart."""
        return self.root == _DEFAULT_ROOT

    @property
    def root_key(self) -> str:
        """Eight hex digits that tell engines with different roots apart in names on the host."""
        return hashlib.sha256(self.root.encode()).hexdigest()[:8]

    @property
    def cgroup_parent(self) -> str:
        """The cgroup above those of this engine's containers, as a path below each cgroup mount."""
        return "/teul" if self.is_default_root else f"/teul-{self.root_key}"


def parse_arguments(arguments: list[str], environment: Mapping[str, str]) -> EngineConfig:
    """Read the options of `teul serve`; `TEUL_ROOT` and `TEUL_RUN_ROOT` stand in for `--root` and `--run-root`.

    Ends the process with a usage message on options that are unknown or malformed. Raises `InvalidParameter` for a bad address.
    """
    options = _parser(environment).parse_args(arguments)
    run_root = os.path.realpath(options.run_root)
    tls = None
    if options.tls or options.tlsverify:
        tls = TlsFiles(ca=options.tlscacert, cert=options.tlscert, key=options.tlskey, verify=options.tlsverify)
    hosts = tuple(options.host) or (f"unix://{run_root}/docker.sock",)
    return EngineConfig(
        root=os.path.realpath(options.root),
        run_root=run_root,
        hosts=tuple(check_host(host, tls=tls, insecure=options.insecure_tcp) for host in hosts),
        idle_timeout_seconds=options.idle_timeout,
        on_demand=options.on_demand,
        debug=options.debug,
        snapshotter=options.snapshotter,
        registry_mirrors=tuple(options.registry_mirror),
        insecure_registries=tuple(options.insecure_registry),
        proxies=Proxies.of_environment(environment),
        keeps_compressed=options.compressed_layers == _KEEP,
        default_bridge=parse_default_bridge(options),
        published_ports=options.published_ports,
        address_pools=tuple(parse_pool(text) for text in options.default_address_pool),
        keep_generations=options.keep_generations,
        disk_reserve_bytes=options.disk_reserve,
        plugin_directories=PluginDirectories(given, given) if (given := tuple(options.plugin_directory)) else PluginDirectories(),
        runtimes=parse_runtimes(options),
        log_defaults=_log_defaults(options.log_driver, options.log_opt),
        cdi_directories=tuple(options.cdi_spec_dir) or CDI_DIRECTORIES,
        tls=tls,
    )


def _parser(environment: Mapping[str, str]) -> argparse.ArgumentParser:
    certificates = environment.get("DOCKER_CERT_PATH") or os.path.join(environment.get("HOME") or os.path.expanduser("~"), ".docker")
    parser = argparse.ArgumentParser(prog="teul serve", description="Run the Teul engine.")
    parser.add_argument("-H", "--host", action="append", default=[], metavar="URL", help="listen on unix://PATH or tcp://ADDRESS:PORT")
    parser.add_argument("--root", default=environment.get("TEUL_ROOT") or _DEFAULT_ROOT, help="where images and containers are kept")
    parser.add_argument("--run-root", default=environment.get("TEUL_RUN_ROOT") or _DEFAULT_RUN, help="what lives only while containers run")
    parser.add_argument("--idle-timeout", type=float, default=None, metavar="SECONDS", help="leave when nothing has run for so long")
    parser.add_argument("--on-demand", action="store_true", help="keep nothing of the session, the cgroups and the limits of who starts it")
    parser.add_argument("--tls", action="store_true", help="use TLS on TCP; implied by --tlsverify")
    parser.add_argument("--tlsverify", action="store_true", help="use TLS on TCP and demand a certificate of every client")
    parser.add_argument("--tlscacert", default=f"{certificates}/ca.pem", metavar="PATH", help="trust certs signed only by this CA")
    parser.add_argument("--tlscert", default=f"{certificates}/cert.pem", metavar="PATH", help="path to TLS certificate file")
    parser.add_argument("--tlskey", default=f"{certificates}/key.pem", metavar="PATH", help="path to TLS key file")
    parser.add_argument("--insecure-tcp", action="store_true", help="listen beyond loopback without --tlsverify: whoever connects is root")
    parser.add_argument(
        "--snapshotter", choices=(AUTO, EROFS, DIRECTORY), default=AUTO, help="mount layers by an index over their archives, or unpack them"
    )
    parser.add_argument("--registry-mirror", action="append", default=[], metavar="URL", help="ask this mirror before Docker Hub")
    parser.add_argument(
        "--insecure-registry", action="append", default=[], metavar="HOST", help="speak to this registry (or CIDR) without verified TLS"
    )
    parser.add_argument(
        "--compressed-layers", choices=(_KEEP, _DROP), default=_KEEP, help="keep layers as they came beside their indexed archives, or not"
    )
    add_options(parser)
    add_runtime_options(parser)
    parser.add_argument("--cdi-spec-dir", action="append", default=[], metavar="DIR", help="look for documents of devices (CDI) here")
    parser.add_argument(
        "--published-ports",
        choices=(TRANSLATE, RELAY),
        default=TRANSLATE,
        help="have the kernel lead them to containers, or a process receive all on the host, whose rules for input then count",
    )
    parser.add_argument(
        "--default-address-pool", action="append", default=[], metavar="base=CIDR,size=BITS", help="default address pools for networks"
    )
    parser.add_argument(
        "--keep-generations",
        type=_parse_count,
        default=1,
        metavar="NUMBER",
        help="former generations that a renewed container can be rolled back to",
    )
    parser.add_argument(
        "--disk-reserve",
        type=parse_memory,
        default=DEFAULT_RESERVE_BYTES,
        metavar="SIZE",
        help="take no new images, containers and volumes when less is free on the disk (32m; 0 for never)",
    )
    parser.add_argument(
        "--plugin-directory", action="append", default=[], metavar="DIR", help="look for volume plug-ins here, not in Docker's directories"
    )
    parser.add_argument("--log-driver", default=JSON_FILE, metavar="DRIVER", help="default driver for container logs")
    parser.add_argument("--log-opt", action="append", default=[], metavar="NAME=VALUE", help="default log driver options for containers")
    parser.add_argument("-D", "--debug", action="store_true", help="log more")
    return parser


def _parse_count(text: str) -> int:
    if not (text.isascii() and text.isdigit()):
        raise argparse.ArgumentTypeError(f"{text!r} is no number of generations")
    return int(text)


def _log_defaults(driver: str, options: list[str]) -> LogConfig:
    """docker: daemon/logs.go, defaultLogConfig: a driver that there is not is refused to the containers only, if it has no options."""
    defaults = LogConfig(type=driver, config=dict(option.partition("=")[::2] for option in options))
    if options:
        try:
            check_log_config(defaults)
        except InvalidParameter as error:
            raise InvalidParameter(f"failed to set log opts: {error.message}") from None
    return defaults


def check_host(host: str, *, tls: TlsFiles | None = None, insecure: bool = False) -> str:
    """`host` with its port filled in. Raises InvalidParameter for an address that the engine cannot or must not listen on.

    security: whoever reaches an engine is root on its host. Beyond loopback the engine demands a certificate, unless its user insists.
    """
    scheme, separator, rest = host.partition("://")
    if scheme == "unix" and separator and rest.startswith("/"):
        return host
    if scheme != "tcp" or not separator:
        raise InvalidParameter(f"{host!r} is not an address to listen on", hint="use unix:///PATH or tcp://127.0.0.1:PORT")
    name, port = _split_tcp(rest.removesuffix("/"), host)
    if not (tls is not None and tls.verify) and not insecure and not _is_loopback(name):
        raise InvalidParameter(
            f"{host!r}: without --tlsverify the engine listens on loopback only",
            hint="give --tlsverify with --tlscacert, --tlscert and --tlskey, or use tcp://127.0.0.1:PORT and forward it over ssh; "
            "--insecure-tcp listens all the same, and makes everybody root who can connect",
        )
    return f"tcp://{name}:{port or (_PORT if tls is None else _TLS_PORT)}"


def _split_tcp(rest: str, host: str) -> tuple[str, int]:
    """The address, IPv6 in brackets, and the port, 0 for none."""
    if rest.startswith("["):
        inner, bracket, tail = rest[1:].partition("]")
        name, separator, port = f"[{inner}]", tail[:1], tail[1:]
        good = bool(bracket) and separator in ("", ":") and _is_address(inner, 6)
    else:
        name, separator, port = rest.partition(":")
        good = "/" not in name and ":" not in port
    if separator:
        good = good and port.isascii() and port.isdigit() and 0 < int(port[:6]) < 65536
    if not good:
        raise InvalidParameter(f"{host!r} is not an address to listen on", hint="use tcp://ADDRESS:PORT")
    return name or "localhost", int(port) if port else 0


def _is_address(text: str, version: int) -> bool:
    try:
        return ipaddress.ip_address(text).version == version
    except ValueError:
        return False


def _is_loopback(name: str) -> bool:
    """Whether what is sent to `name` stays on this machine; of host names that is known of `localhost` only."""
    if name == "localhost":
        return True
    try:
        return ipaddress.ip_address(name.strip("[]")).is_loopback
    except ValueError:
        return False
