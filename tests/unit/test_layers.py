"""The rules of the house about who may import whom, who may touch the process, and how large things grow.

A rule nobody executes is a wish. Each test reads the source, finds every violation at once, and says where the code belongs instead.
The exception lists at the top may only shrink: an exception that is no longer needed fails its test too.
"""

from __future__ import annotations

import ast
import re
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import pytest

PROJECT = Path(__file__).resolve().parents[2]
SOURCE = PROJECT / "src" / "teul"

# The house by floor. A module imports what stands on lower floors, and of its own floor what shares its folder.
LAYERS = {
    "errors": 0,
    "aio": 0,
    "failpoints": 0,
    "oci": 1,
    "model": 1,
    "wire": 1,
    "templates": 1,
    "dockerfile": 1,
    "linux": 2,
    "store": 2,
    "workers": 3,
    "snapshots": 3,
    "runtime": 3,
    "network": 3,
    "registry": 3,
    "plugins": 3,
    "build": 4,
    "services": 5,
    "api": 6,
    "cri": 6,
    "hub": 6,
    "client": 7,
    "cli": 8,
    "web": 8,
    "daemon": 9,
}

# Rooms that may use less than their floor allows; "" stands for the package itself (its version).
ALLOWED = {
    "errors": {""},
    "aio": {"", "errors"},
    "failpoints": set(),
    "oci": {"", "errors", "aio"},
    "model": {"", "errors", "aio", "oci"},
    "wire": {"", "errors", "aio"},
    "templates": {"wire"},
    "dockerfile": {"", "errors", "aio", "oci", "model"},
    "linux": {"", "errors", "aio"},
    "registry": {"", "errors", "aio", "oci", "wire"},
    "plugins": {"", "errors", "aio", "oci", "model"},
    "api": {"", "errors", "aio", "oci", "model", "wire", "dockerfile", "services"},
    "cri": {"", "errors", "aio", "oci", "model", "wire", "dockerfile", "services"},
    "hub": {"", "errors", "aio", "oci", "model", "wire", "dockerfile", "registry"},
    "client": {"", "errors", "aio", "oci", "model", "wire", "dockerfile"},
    "cli": {"", "errors", "aio", "oci", "model", "wire", "templates", "dockerfile", "client"},
    "web": {"", "errors", "aio", "oci", "model", "wire", "dockerfile", "client"},
}

# Inside a room, from below: what stands in one row may not import each other, and nothing of the rows after it.
STAIRS: dict[str, tuple[tuple[str, ...], ...]] = {
    "teul.runtime": (("messages",), ("child", "forwarder"), ("keeper", "engine")),
    "teul.workers": (("program",), ("client",), ("layers", "mounting", "rootfs", "volumes")),
    "teul.workers.program": (
        ("messages",),
        ("allowed", "entries", "hashed_file", "keeping", "report", "streams", "upper"),
        ("attributes", "changes", "confine", "decompression", "names", "pack"),
        ("late",),
        ("extract", "place", "populate", "resolve", "split", "view"),
        ("index",),
        ("changeset",),
        ("changed",),
        ("layers", "mounting", "rootfs", "volumes"),
    ),
    "teul.network.agent": (("messages",), ("program",), ("difference", "line", "start"), ("client",), ("relays",)),
    "teul.network.agent.program": (
        ("confine", "connections", "deadlines", "names"),
        ("associations", "packets"),
        ("reports", "streams", "upstream"),
        ("relays", "resolver"),
        ("orders",),
        ("main",),
    ),
    "teul.network.paths": (
        ("ruleset",),
        ("facts", "packet"),
        ("evaluation", "gather"),
        ("journey",),
        ("arrival",),
        ("incoming", "outgoing"),
        ("direct",),
        ("explanation",),
    ),
    "teul.registry": (
        ("errors",),
        ("backoff", "certificates", "challenges", "credentials", "endpoints", "failures"),
        ("answers", "proxies"),
        ("transport",),
        ("tokens",),
        ("client",),
    ),
    "teul.registry.client": (
        ("session", "web_files"),
        ("exchange", "searches"),
        ("blobs", "listings", "manifests", "uploads"),
        ("repository",),
        ("inspection", "registry_client"),
    ),
    "teul.plugins": (("errors",), ("discovery",), ("client",), ("registry",), ("volume_driver",)),
    "teul.services": (
        ("events", "host", "usage", "watching"),
        ("images", "networks", "volumes"),
        ("containers",),
        ("builds",),
        ("system",),
    ),
    "teul.services.images": (
        ("archive_contents", "assemble", "new_image"),
        ("catalog", "disk_usage", "placing", "search"),
        ("damage", "kept", "layer_tree", "leaving", "lookup", "origins", "plan", "push_plan", "registries"),
        ("store",),
        ("layers", "listing", "measuring", "save"),
        ("commit", "downloads", "import_", "moving", "push", "remove", "repair", "stored_members"),
        ("load", "pull"),
        ("archives", "check", "service"),
    ),
    "teul.dockerfile": (
        ("errors",),
        ("arguments", "ignore", "patterns"),
        ("health", "run_mounts", "words"),
        ("lines",),
        ("syntax",),
        ("parse",),
        ("changes",),
    ),
    "teul.services.volumes": (
        ("filters", "local", "request", "turns"),
        ("drivers", "records"),
        ("mounts", "plugged"),
        ("service",),
        ("archives",),
    ),
    "teul.services.containers": (
        ("errors", "generations", "link_names", "lowest_layer", "restart_policy", "run"),
        ("registry", "directories"),
        ("bundle", "log_file"),
        ("log_files",),
        ("request",),
        ("log_plan",),
        ("attachments", "spec"),
        ("cdi", "devices", "filters", "network_files", "logs", "ports", "processes", "sources", "update"),
        ("links",),
        ("launch", "names", "volumes"),
        ("removal",),
        ("supervision",),
        ("lifecycle",),
        ("connections", "egress", "explanations", "service", "execs", "filesystem", "mount_edits", "resources"),
        ("commits", "pruning"),
        ("health", "trial"),
        ("renewal",),
    ),
    "teul.api": (("http",), ("containers", "images", "networks", "volumes", "builds", "unsupported"), ("system",), ("app",)),
    "teul.cli": (
        ("errors", "files", "table"),
        ("copying", "options", "packing"),
        ("endpoint",),
        ("reach",),
        ("engine",),
        ("context",),
        ("command",),
        ("api_version", "format", "peer", "session"),
        ("registry",),
        ("creation",),
        ("commands",),
        ("main",),
    ),
}

# Single imports that the rules above forbid: (importing module, imported module) -> why it must be.
IMPORT_EXCEPTIONS = {
    ("teul.cli.commands.serve", "teul.daemon.main"): "`teul serve` is the door to the composition root; imported when the command runs",
    (
        "teul.cli.commands.manifest",
        "teul.registry.client.inspection",
    ): "docker's command asks registries itself; imported when the command runs",
    ("teul.store.atomic", "teul.linux.syscalls"): "syncfs(2) has no name in the standard library",
}

WHAT_BELONGS_WHERE = {
    0: "error kinds, task supervision, the points where tests make things go wrong",
    1: "pure code: documents, records, byte protocols; no I/O",
    2: "thin code at the kernel (linux/) and the disk (store/); no container words",
    3: "mechanisms: snapshots, runtime, network, registry, plug-ins",
    4: "the build graph",
    5: "use cases: the decisions",
    6: "front ends: requests in, answers out, nothing decided",
    7: "the client of our own HTTP API",
    8: "the command line and the dashboard, which know the engine only through its API",
    9: "the wiring of the engine",
}

# Rooms that turn values into values: nothing there reaches the disk, the network, the clock or another process.
PURE_ROOMS = (
    "teul.dockerfile",
    "teul.model",
    "teul.oci",
    "teul.services.containers.request",
    "teul.services.containers.spec",
    "teul.wire",
)
IMPURE_MODULES = frozenset({"asyncio", "glob", "io", "multiprocessing", "os", "pathlib", "random", "secrets", "select", "shutil", "socket"})
IMPURE_MODULES |= {"sqlite3", "subprocess", "tempfile", "threading", "time", "urllib", "teul.linux", "teul.store", "teul.runtime"}
# (module, what it imports) -> why that is no reach outside.
PURE_EXCEPTIONS = {
    ("teul.model.event", "time"): "an event is of now, unless its maker says otherwise",
    ("teul.model.names", "secrets"): "a name by chance",
    ("teul.oci.platform", "os"): "the machine's own name, where the caller gives none",
    ("teul.oci.seccomp_profile", "os"): "reads a file of this package",
    ("teul.services.containers.request.syslog_options", "urllib"): "takes an address apart",
    ("teul.wire.gziplog", "os"): "a type of its",
    ("teul.wire.syslog", "time"): "localtime(3) calculates",
    ("teul.wire.jsonlog", "time"): "gmtime(3) calculates; datetime would cost the keeper memory",
}

# What the keeper has loaded when it forks costs every container memory, and what it imports delays the engine's start. Its modules
# are these and what they import, step by step; all of them stand in the rooms named second.
KEEPER_ENTRANCES = ("teul.linux", "teul.runtime.child", "teul.runtime.keeper.keeper", "teul.runtime.keeper.monitor")
KEEPER_ROOMS = ("teul.failpoints", "teul.linux", "teul.oci.runtime_spec", "teul.runtime", "teul.store.atomic", "teul.wire")
KEEPER_STDLIB = {
    "__future__",
    "_socket",
    "_thread",
    "array",
    "collections",
    "collections.abc",
    "contextlib",
    "ctypes",
    "ctypes.util",
    "errno",
    "fcntl",
    "functools",
    "gc",
    "heapq",
    "itertools",
    "json",
    "json.encoder",
    "math",
    "operator",
    "os",
    "resource",
    "select",
    "signal",
    "socket",
    "stat",
    "struct",
    "sys",
    "termios",
    "time",
    "types",
    "typing",
    "zlib",  # loaded by the fork that compresses a file of a log, and never by the keeper
}

# What runs inside a worker handles foreign bytes and is started for every job: it loads little, and nothing that decides.
WORKER_ROOM = "teul.workers.program"
WORKER_ROOMS = ("teul.linux", "teul.wire", "teul.store.atomic", WORKER_ROOM)
WORKER_LIBRARIES = ("isal", "zstandard")

# What runs inside the network agent handles foreign bytes, too, and stays in memory: it loads little, and nothing that decides. The
# library that reads DNS messages is loaded there only, by one module.
AGENT_ROOM = "teul.network.agent.program"
AGENT_ROOMS = ("teul.linux", "teul.network.agent.messages", AGENT_ROOM)
AGENT_LIBRARIES = {"dnslib": "teul.network.agent.program.packets"}

# Who may read the environment and the command line, end the process and set up logging.
PROCESS_ROOMS = ("teul.cli", "teul.daemon", "teul.__main__")
PROCESS_EXCEPTIONS = {
    ("teul.network.agent.program.main", "sys.argv"): "a program of its own, started by the engine",
    ("teul.runtime.keeper.keeper", "sys.argv"): "a program of its own, started by the engine",
}

# Who writes whole files: store/atomic for the engine and the keeper. The command line writes to its user's places, and the workers'
# program fills directories that are thrown away when it fails. Others may have one of the calls for something else:
# (module, call) -> what.
WHOLE_FILE_ROOMS = ("teul.store.atomic", "teul.cli", "teul.workers.program")
WHOLE_FILE_EXCEPTIONS = {
    ("teul.daemon.listeners", "os.rename"): "the API's socket: bound under another name, and seen with its final mode only",
    ("teul.daemon.lock", "os.O_CREAT"): "the lock file: locked, never written",
    ("teul.linux.paths", "os.O_CREAT"): "an empty file for a mount to cover, made inside of a root by descriptors",
    ("teul.network.sysctls", "open(..., 'w')"): "a setting of the kernel, in /proc",
    ("teul.network.agent.start", "os.rename"): "the agent's socket: bound under another name, and seen when it is listened to",
    ("teul.runtime.keeper.compression", "os.O_CREAT"): "a compressed file of a log: has its name when it is whole and synced",
    ("teul.runtime.keeper.compression", "os.rename"): "see above",
    ("teul.runtime.keeper.logs", "os.O_CREAT"): "the log: appended to for as long as its container runs",
    ("teul.runtime.keeper.logs", "os.rename"): "the log's rotation",
    ("teul.runtime.keeper.monitor", "os.rename"): "the monitor's socket: bound under another name, and seen when it is listened to",
    ("teul.store.ballast", "os.O_CREAT"): "has a weight and no content, so it cannot be half written",
    ("teul.runtime.keeper.outbox", "os.O_TMPFILE"): "what a slow client has not read: never has a name",
    ("teul.services.containers.directories", "os.rename"): "a directory, put out of sight before it is removed",
    ("teul.services.volumes.local", "os.O_CREAT"): "a mark, which has no content",
    (
        "teul.services.volumes.local",
        "os.rename",
    ): "directories of volumes, and what an image gives them: put to their place when they are whole",
    ("teul.snapshots.layers", "os.rename"): "the directory of a layer",
    ("teul.store.content", "os.rename"): "a blob that a worker wrote, moved to its place",
    ("teul.workers.layers", "os.O_CREAT"): "a blob that a worker is about to write, in a directory that is thrown away if it fails",
}

JUNK_DRAWERS = {"utils", "util", "helpers", "helper", "common", "misc", "base", "shared", "tools"}

MODULE_LINES = 800
FUNCTION_LINES = 80
CLASS_METHODS = 15
LONG_MODULES: set[str] = set()
LONG_FUNCTIONS: set[str] = set()
LARGE_CLASSES: set[str] = set()

# Where parts are made and put together, and what is still set on a finished part there.
COMPLETING_ROOMS = ("teul.daemon", "teul.services")
LATE_CALLBACKS: set[str] = set()

# The canonical default domain of the reference grammar is the one registry that source may name.
REGISTRY_HOSTS = (
    "ghcr.io",
    "quay.io",
    "gcr.io",
    "registry.k8s.io",
    "mcr.microsoft.com",
    "public.ecr.aws",
    "registry-1.docker.io",
    "index.docker.io",
    "hub.docker.com",
    "registry.gitlab.com",
)
REGISTRY_HOST_EXCEPTIONS = {
    "src/teul/cli/registry/credentials.py",  # docker: it is the key of the default domain's credentials in config.json
    "src/teul/oci/reference.py",  # docker: `index.docker.io` is an old spelling of the default domain
    "src/teul/registry/endpoints.py",  # docker: so is it here; and the default domain's registry has another name
    "tests/unit/registry/test_endpoints.py",  # these names are what it tests
}


@dataclass(frozen=True)
class Module:
    name: str
    path: Path
    tree: ast.Module
    text: str

    @property
    def room(self) -> str:
        """The folder or top module that the rules speak of; "" for the package itself."""
        parts = self.name.split(".")
        return parts[1] if len(parts) > 1 else ""

    def at(self, node: ast.stmt | ast.expr) -> str:
        return f"{self.path.relative_to(PROJECT)}:{node.lineno}"


@cache
def modules() -> tuple[Module, ...]:
    found = []
    for path in sorted(SOURCE.rglob("*.py")):
        parts = path.relative_to(SOURCE.parent).with_suffix("").parts
        name = ".".join(parts[:-1] if parts[-1] == "__init__" else parts)
        text = path.read_text(encoding="utf-8")
        found.append(Module(name, path, ast.parse(text, filename=str(path)), text))
    return tuple(found)


def room_of(name: str) -> str:
    parts = name.split(".")
    return parts[1] if len(parts) > 1 else ""


def imports(module: Module) -> Iterator[tuple[ast.stmt, str]]:
    """Every module that `module` imports, also inside functions; type-checking-only imports count, since readers follow them too."""
    known = {other.name for other in modules()}
    for node in ast.walk(module.tree):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield node, alias.name
        elif isinstance(node, ast.ImportFrom):
            origin = node.module or ""
            if node.level:
                base = module.name if module.path.name == "__init__.py" else module.name.rpartition(".")[0]
                for _ in range(node.level - 1):
                    base = base.rpartition(".")[0]
                origin = f"{base}.{origin}".rstrip(".")
            for alias in node.names:
                full = f"{origin}.{alias.name}"
                yield node, full if full in known else origin


def is_inside(name: str, rooms: tuple[str, ...]) -> bool:
    return any(name == room or name.startswith(f"{room}.") for room in rooms)


def report(violations: list[str], rule: str) -> None:
    assert not violations, f"{rule}\n  " + "\n  ".join(dict.fromkeys(violations))


def test_every_folder_has_its_floor() -> None:
    """A new folder is a decision about the house: it gets its place in LAYERS first."""
    unknown = sorted({module.room for module in modules()} - set(LAYERS) - {"", "__main__"})
    report(unknown, "folders without a layer; give them their place in LAYERS (and in ARCHITECTURE.md):")


def test_imports_go_downwards() -> None:
    """A module imports lower floors only, and its own floor only inside its own folder."""
    violations = []
    used = set()
    for module in modules():
        if module.room in {"", "__main__"}:
            continue
        for node, name in imports(module):
            if not is_inside(name, ("teul",)) or room_of(name) == module.room:
                continue
            if (module.name, name) in IMPORT_EXCEPTIONS:
                used.add((module.name, name))
                continue
            problem = _import_problem(module.room, room_of(name))
            if problem:
                violations.append(f"{module.at(node)}: {module.name} imports {name}: {problem}")
    report(violations, "imports go downwards (STYLE: layers):")
    report([f"{pair}" for pair in set(IMPORT_EXCEPTIONS) - used if _exists(pair[0])], "import exceptions that nobody needs any more:")


def test_pure_rooms_are_pure() -> None:
    """What decides about bytes, documents and requests can be tested without a machine."""
    violations = []
    used = set()
    for module in modules():
        if not is_inside(module.name, PURE_ROOMS):
            continue
        for node, name in imports(module):
            found = next((impure for impure in IMPURE_MODULES if is_inside(name, (impure,))), None)
            if found is not None and (module.name, found) in PURE_EXCEPTIONS:
                used.add((module.name, found))
            elif found is not None:
                violations.append(f"{module.at(node)}: {module.name} imports {name}")
    report(violations, "these rooms are pure: let the caller look, and hand in what was seen:")
    report([f"{pair}" for pair in set(PURE_EXCEPTIONS) - used], "exceptions that nobody needs any more:")


def _step(name: str, room: str) -> str:
    """What of `room` the module `name` belongs to: a module of it, or a folder."""
    return name.removeprefix(f"{room}.").partition(".")[0]


def test_every_stair_has_its_steps() -> None:
    """A new module in a room with stairs gets its place on them first; a step that nobody stands on may be one that is to come."""
    violations = []
    for room, rows in STAIRS.items():
        known = {step for row in rows for step in row}
        found = {_step(module.name, room) for module in modules() if module.name.startswith(f"{room}.")}
        violations += [f"{room}.{step}" for step in sorted(found - known)]
    report(violations, "give these their place in STAIRS:")


def test_nobody_climbs_the_stairs_inside_a_room() -> None:
    """Inside a room data flows one way, too."""
    violations = []
    for room, rows in STAIRS.items():
        heights = {step: height for height, row in enumerate(rows) for step in row}
        for module in modules():
            if not module.name.startswith(f"{room}."):
                continue
            step = _step(module.name, room)
            for node, name in imports(module):
                other = _step(name, room)
                if name.startswith(f"{room}.") and other != step and heights.get(other, 99) >= heights.get(step, 0):
                    violations.append(f"{module.at(node)}: {module.name} imports {name}, which does not stand below it in {room}")
    report(violations, "inside a room imports go downwards as well (STAIRS); what both need belongs further down:")


def _exists(name: str) -> bool:
    return any(module.name == name for module in modules())


def _import_problem(importer: str, imported: str) -> str | None:
    floor, target = LAYERS[importer], LAYERS.get(imported, -1)
    if importer in ALLOWED:
        allowed = ALLOWED[importer]
        return (
            None if imported in allowed else f"{importer}/ ({WHAT_BELONGS_WHERE[floor]}) may use {', '.join(sorted(allowed - {''}))} only"
        )
    if target < floor:
        return None
    below = max(floor - 1, 0)
    return (
        f"{importer}/ (floor {floor}) must not know {imported}/ (floor {target}): what both need belongs further down "
        f"(floor {below}: {WHAT_BELONGS_WHERE[below]}), or {imported}/ calls {importer}/"
    )


@cache
def keeper_modules() -> frozenset[str]:
    """The names of the modules that the keeper loads, its packages' `__init__` included."""
    by_name = {module.name: module for module in modules()}
    found: set[str] = set()
    waiting = [name for name in by_name if is_inside(name, KEEPER_ENTRANCES)]
    while waiting:
        name = waiting.pop()
        if name not in found and name in by_name:
            found.add(name)
            waiting += [imported for _, imported in imports(by_name[name]) if is_inside(imported, ("teul",))]
            waiting.append(name.rpartition(".")[0])
    return frozenset(found)


def test_the_keeper_stays_light() -> None:
    """The keeper, the monitor, the child and all they load import a written list of the standard library and each other."""
    violations = []
    for module in modules():
        if module.name not in keeper_modules():
            continue
        for node, name in imports(module):
            fits = name == "teul" or is_inside(name, KEEPER_ROOMS) if is_inside(name, ("teul",)) else name in KEEPER_STDLIB
            if not fits:
                violations.append(f"{module.at(node)}: {module.name} imports {name}")
    report(
        violations,
        f"what the keeper loads imports the standard library's listed modules and {', '.join(KEEPER_ROOMS)} only; "
        "decide in services/ and hand the result down as plain data:",
    )


def test_the_standard_library_list_is_the_standard_library() -> None:
    names = {name.partition(".")[0] for name in KEEPER_STDLIB}
    report(sorted(names - set(sys.stdlib_module_names)), "not in the standard library:")


def test_workers_load_little() -> None:
    """The programs inside worker processes import the kernel, the wire and each other; of others' libraries the decompressors only."""
    violations = []
    for module in modules():
        if not is_inside(module.name, (WORKER_ROOM,)):
            continue
        for node, name in imports(module):
            fits = name == "teul" or is_inside(name, WORKER_ROOMS)
            if not is_inside(name, ("teul",)):
                fits = name.partition(".")[0] in sys.stdlib_module_names or is_inside(name, WORKER_LIBRARIES)
            if not fits:
                violations.append(f"{module.at(node)}: {module.name} imports {name}")
    report(
        violations,
        f"{WORKER_ROOM} imports the standard library, {', '.join(WORKER_LIBRARIES)} and {', '.join(WORKER_ROOMS)} only; "
        "decide at the engine's end and put the decision into the order (workers/program/messages.py):",
    )


def test_what_runs_inside_the_agent_loads_little() -> None:
    """Its modules import the standard library, linux/ and each other; and nobody else loads its library."""
    violations = []
    for module in modules():
        for node, name in imports(module):
            library = AGENT_LIBRARIES.get(name.partition(".")[0])
            fits = library in {None, module.name}
            if is_inside(module.name, (AGENT_ROOM,)) and library is None:
                fits = name.partition(".")[0] in sys.stdlib_module_names or name == "teul" or is_inside(name, AGENT_ROOMS)
            if not fits:
                violations.append(f"{module.at(node)}: {module.name} imports {name}")
    report(
        violations,
        f"{AGENT_ROOM} imports the standard library and {', '.join(AGENT_ROOMS)} only, and a library where AGENT_LIBRARIES says; "
        "decide at the engine's end and put the decision into the order (network/agent/messages.py):",
    )


PROCESS_TOUCHES = {
    "os.environ": "read the environment in daemon/ or cli/ and hand a frozen config object down",
    "os.environb": "read the environment in daemon/ or cli/ and hand a frozen config object down",
    "os.getenv": "read the environment in daemon/ or cli/ and hand a frozen config object down",
    "os.putenv": "pass `env` to what you start",
    "sys.argv": "parse the command line in cli/ or daemon/",
    "sys.exit": "raise a TeulError; cli/ and daemon/ turn it into an exit status",
    "logging.basicConfig": "daemon/ and cli/ set up logging; elsewhere `log = logging.getLogger(__name__)`",
    "logging.config": "daemon/ and cli/ set up logging",
}


def test_only_the_daemon_and_the_cli_touch_the_process() -> None:
    """Nobody else reads the environment or the command line, ends the process or configures logging."""
    violations = []
    used = set()
    for module in modules():
        if is_inside(module.name, PROCESS_ROOMS):
            continue
        for node, touch in _process_touches(module):
            if (module.name, touch) in PROCESS_EXCEPTIONS:
                used.add((module.name, touch))
                continue
            violations.append(f"{module.at(node)}: {touch}: {PROCESS_TOUCHES[touch]}")
    report(violations, "only daemon/ and cli/ touch the process (STYLE: layers):")
    report([f"{pair}" for pair in set(PROCESS_EXCEPTIONS) - used if _exists(pair[0])], "process exceptions that nobody needs any more:")


def _process_touches(module: Module) -> Iterator[tuple[ast.expr | ast.stmt, str]]:
    for node in ast.walk(module.tree):
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name):
            touch = f"{node.value.id}.{node.attr}"
            if touch in PROCESS_TOUCHES:
                yield node, touch
        elif isinstance(node, ast.ImportFrom):
            for alias in node.names:
                touch = f"{node.module}.{alias.name}"
                if touch in PROCESS_TOUCHES:
                    yield node, touch


_RENAMES = {"rename", "renames", "replace"}
_CREATING_FLAGS = {"O_CREAT", "O_TRUNC", "O_TMPFILE"}


def test_whole_files_have_one_writer() -> None:
    """What `store.atomic` promises of a file nobody promises by hand: whole or not there, no temporary left, no two writers in one."""
    violations = []
    used = set()
    for module in modules():
        if is_inside(module.name, WHOLE_FILE_ROOMS):
            continue
        for node, call in _file_writes(module.tree):
            if (module.name, call) in WHOLE_FILE_EXCEPTIONS:
                used.add((module.name, call))
                continue
            violations.append(f"{module.at(node)}: {call}")
    report(violations, "write whole files with store.atomic's replace_file and write_new_file:")
    report([f"{pair}" for pair in set(WHOLE_FILE_EXCEPTIONS) - used], "writers of files that are none any more:")


def _file_writes(tree: ast.AST) -> Iterator[tuple[ast.expr | ast.stmt, str]]:
    """What could make or replace a file by name, and how an exception would call it."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Call):
            mode = _opening_mode(node)
            if mode is not None:
                yield node, f"open(..., {mode})"
            elif isinstance(node.func, ast.Attribute) and _is_renaming_method(node, node.func):
                yield node, f"Path.{node.func.attr}"
        elif isinstance(node, ast.Attribute):
            if node.attr in {"write_text", "write_bytes"}:
                yield node, f"Path.{node.attr}"
            elif ast.unparse(node.value) == "os" and node.attr in _RENAMES | _CREATING_FLAGS:
                yield node, f"os.{node.attr}"
        elif isinstance(node, ast.ImportFrom) and node.module == "os":
            for alias in node.names:
                if alias.name in _RENAMES | _CREATING_FLAGS:
                    yield node, f"os.{alias.name}"


def _is_renaming_method(call: ast.Call, method: ast.Attribute) -> bool:
    """`Path.rename` and `Path.replace` take one argument; their namesakes of strings and services take two."""
    alone = len(call.args) == 1 and not call.keywords
    return alone and method.attr in _RENAMES and ast.unparse(method.value) not in {"copy", "dataclasses", "msgspec.structs", "os"}


def _opening_mode(call: ast.Call) -> str | None:
    """The mode, as source, of an `open` that may write; None if the call opens nothing or is known to read. `os.open` has flags instead."""
    by_name = isinstance(call.func, ast.Name) and call.func.id == "open"
    if not by_name and not (isinstance(call.func, ast.Attribute) and call.func.attr == "open"):
        return None
    if ast.unparse(call.func) == "os.open":
        return None
    given = [keyword.value for keyword in call.keywords if keyword.arg == "mode"]
    if by_name:
        modes = given + call.args[1:2]
        return next((ast.unparse(mode) for mode in modes if not isinstance(mode, ast.Constant) or set(str(mode.value)) & set("wxa+")), None)
    # Some class's `open`: of a path, which takes the mode first, or of a module like `io`, which takes it second.
    texts = [mode.value for mode in given + call.args[:2] if isinstance(mode, ast.Constant) and isinstance(mode.value, str)]
    return next((repr(text) for text in texts if re.fullmatch(r"[rbt]*[wxa+][wxabt+]*([:|][a-z0-9]*)?", text)), None)


def test_nothing_happens_at_import() -> None:
    """Importing a module defines names; it calls nothing for its effect."""
    violations = [
        f"{module.at(node)}: {ast.unparse(node)[:80]}"
        for module in modules()
        if module.room != "__main__"
        for node in module.tree.body
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Call)
    ]
    report(violations, "no import-time side effects; call it from daemon/ or from the constructor of what needs it:")


def test_no_junk_drawers() -> None:
    """A module is named after the thing it holds."""
    violations = [f"{module.path.relative_to(PROJECT)}" for module in modules() if module.name.rpartition(".")[2] in JUNK_DRAWERS]
    report(violations, f"name modules after what they hold, never {', '.join(sorted(JUNK_DRAWERS))}:")


def test_modules_stay_small() -> None:
    sizes = {module.name: module.text.count("\n") for module in modules()}
    too_long = {name for name, lines in sizes.items() if lines > MODULE_LINES}
    report([f"{name}: {sizes[name]} lines" for name in sorted(too_long - LONG_MODULES)], f"over {MODULE_LINES} lines; split by noun:")
    report(sorted(LONG_MODULES - too_long), "no longer too long; take them off LONG_MODULES:")


def test_functions_stay_small() -> None:
    sizes = {f"{module.name}:{name}": lines for module in modules() for name, lines in _function_lines(module.tree).items()}
    too_long = {name for name, lines in sizes.items() if lines > FUNCTION_LINES}
    report([f"{name}: {sizes[name]} lines" for name in sorted(too_long - LONG_FUNCTIONS)], f"over {FUNCTION_LINES} lines; take steps out:")
    report(sorted(LONG_FUNCTIONS - too_long), "no longer too long; take them off LONG_FUNCTIONS:")


def test_classes_stay_small() -> None:
    """A class that many ask for many things is several classes: split it by noun."""
    sizes = {f"{module.name}:{name}": count for module in modules() for name, count in _public_methods(module.tree).items()}
    too_large = {name for name, count in sizes.items() if count > CLASS_METHODS}
    report(
        [f"{name}: {sizes[name]} public methods" for name in sorted(too_large - LARGE_CLASSES)],
        f"over {CLASS_METHODS} public methods; split by noun:",
    )
    report(sorted(LARGE_CLASSES - too_large), "no longer too large; take them off LARGE_CLASSES:")


Definition = ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef


def _definitions(tree: ast.AST, within: str = "") -> Iterator[tuple[str, Definition]]:
    """Every class and function by its qualified name, also those inside others."""
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, Definition):
            name = f"{within}.{node.name}" if within else node.name
            yield name, node
            yield from _definitions(node, name)
        else:
            yield from _definitions(node, within)


def _function_lines(tree: ast.Module) -> dict[str, int]:
    """The length of every function; of several with one qualified name (a property and its setter) the longest counts."""
    lines: dict[str, int] = {}
    for name, node in _definitions(tree):
        if not isinstance(node, ast.ClassDef):
            assert node.end_lineno is not None
            lines[name] = max(node.end_lineno - node.lineno + 1, lines.get(name, 0))
    return lines


def _public_methods(tree: ast.Module) -> dict[str, int]:
    """How many names a class defines for others to use, properties included."""
    counts: dict[str, int] = {}
    for name, node in _definitions(tree):
        if isinstance(node, ast.ClassDef):
            methods = {child.name for child in node.body if isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef)}
            counts[name] = sum(not method.startswith("_") for method in methods)
    return counts


def test_parts_are_complete_once_constructed() -> None:
    """What a part needs is given to its constructor: no function is set on it later, when somebody may have missed it already."""
    found = {
        f"{module.name}:{target}": module.at(statement)
        for module in modules()
        if is_inside(module.name, COMPLETING_ROOMS)
        for statement, target in _late_callbacks(module.tree, _method_names(), _callback_attributes())
    }
    report(
        [f"{place}: {name}" for name, place in sorted(found.items()) if name not in LATE_CALLBACKS],
        "hand it to the constructor; where that would go round in circles, put what both need further down (as services/usage.py does):",
    )
    report(sorted(LATE_CALLBACKS - found.keys()), "no longer set after construction; take them off LATE_CALLBACKS:")


def _late_callbacks(tree: ast.Module, methods: frozenset[str], attributes: frozenset[str]) -> Iterator[tuple[ast.stmt, str]]:
    """Assignments of functions to attributes of other objects, with what they assign to.

    What is assigned is a function by its looks, or by the name of the attribute, which is one of the `attributes` that hold functions.
    """
    functions = _functions(tree)
    for node in ast.walk(tree):
        if isinstance(node, ast.Assign | ast.AnnAssign) and node.value is not None:
            is_callback = _is_callback(node.value, functions, methods)
            for target in node.targets if isinstance(node, ast.Assign) else [node.target]:
                if not isinstance(target, ast.Attribute) or ast.unparse(target.value) in {"self", "cls"}:
                    continue  # a name, or a part that completes itself
                if is_callback or target.attr in attributes:
                    yield node, ast.unparse(target)


def _is_callback(value: ast.expr, functions: set[str], methods: frozenset[str]) -> bool:
    match value:
        case ast.Lambda():
            return True
        case ast.Name(id=name):
            return name in functions
        case ast.Attribute(attr=name):
            return name in methods
        case ast.Call(func=function):
            return ast.unparse(function) in {"partial", "functools.partial"}
        case ast.IfExp(body=body, orelse=orelse):
            return any(_is_callback(choice, functions, methods) for choice in (body, orelse))
        case ast.BoolOp(values=values):
            return any(_is_callback(choice, functions, methods) for choice in values)
    return False


def _functions(tree: ast.Module) -> set[str]:
    """The names that mean functions in a module: its own, and those that it imports from our other modules."""
    definitions = dict(_definitions(tree))
    classes = {name for name, node in definitions.items() if isinstance(node, ast.ClassDef)}
    functions = {node.name for name, node in definitions.items() if name not in classes and name.rpartition(".")[0] not in classes}
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom):
            functions |= {alias.asname or alias.name for alias in node.names if (node.module, alias.name) in _module_functions()}
    return functions


@cache
def _module_functions() -> frozenset[tuple[str | None, str]]:
    """Our modules' functions, as (module, name)."""
    return frozenset(
        (module.name, node.name)
        for module in modules()
        for node in module.tree.body
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
    )


@cache
def _method_names() -> frozenset[str]:
    """Names that are methods wherever our classes have them; what is a method here and data there has the benefit of the doubt."""
    methods: set[str] = set()
    data: set[str] = set()
    for module in modules():
        for node in ast.walk(module.tree):
            if isinstance(node, ast.ClassDef):
                for child in node.body:
                    if isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef):
                        is_property = any(ast.unparse(decorator).endswith("property") for decorator in child.decorator_list)
                        (data if is_property else methods).add(child.name)
                    elif isinstance(child, ast.AnnAssign) and isinstance(child.target, ast.Name):
                        data.add(child.target.id)
            elif isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Store):
                data.add(node.attr)
    return frozenset(methods - data)


@cache
def _callback_attributes() -> frozenset[str]:
    return frozenset(attribute for module in modules() for attribute in _attributes_that_hold_functions(module.tree))


def _attributes_that_hold_functions(tree: ast.Module) -> Iterator[str]:
    """Attributes that a class declares to be callable, or gives a callable parameter of its constructor."""
    for _, node in _definitions(tree):
        if isinstance(node, ast.ClassDef):
            for child in node.body:
                if isinstance(child, ast.AnnAssign) and isinstance(child.target, ast.Name) and _means_function(child.annotation):
                    yield child.target.id
        elif node.name == "__init__":
            arguments = [*node.args.posonlyargs, *node.args.args, *node.args.kwonlyargs]
            callables = {argument.arg for argument in arguments if argument.annotation is not None and _means_function(argument.annotation)}
            for inner in ast.walk(node):
                if isinstance(inner, ast.Assign) and isinstance(inner.value, ast.Name) and inner.value.id in callables:
                    yield from (target.attr for target in inner.targets if isinstance(target, ast.Attribute))


def _means_function(annotation: ast.expr) -> bool:
    return ast.unparse(annotation).startswith("Callable[")


def test_tasks_are_owned() -> None:
    """A bare task's failure is lost and its end is nobody's: `aio.Tasks` owns them all."""
    violations = [
        f"{module.at(node)}: {node.attr}"
        for module in modules()
        if module.name != "teul.aio"
        for node in ast.walk(module.tree)
        if isinstance(node, ast.Attribute) and node.attr in {"create_task", "ensure_future"} and not _is_task_group(node)
    ]
    report(violations, "start tasks with aio.Tasks (or an asyncio.TaskGroup named `group`):")


def _is_task_group(node: ast.Attribute) -> bool:
    return isinstance(node.value, ast.Name) and node.value.id == "group"


def test_what_is_shielded_has_an_owner() -> None:
    """`asyncio.shield(work())` leaves a task that nobody waits for when the caller is cancelled: `aio.run_to_end` waits for it."""
    violations = [
        f"{module.at(node)}: {ast.unparse(node)}"
        for module in modules()
        if module.name != "teul.aio"
        for node in ast.walk(module.tree)
        if isinstance(node, ast.Call) and _shields_nameless_work(node)
    ]
    report(violations, "use aio.run_to_end; `asyncio.shield` is for a task or a future that has a name, hence an owner:")


def _shields_nameless_work(node: ast.Call) -> bool:
    if ast.unparse(node.func).rpartition(".")[2] != "shield":
        return False
    shielded = [*node.args, *(keyword.value for keyword in node.keywords)]
    return not all(isinstance(argument, ast.Name | ast.Attribute | ast.Subscript) for argument in shielded)


def test_blocking_work_goes_through_one_door() -> None:
    """`aio.run_blocking` is the way off the loop, and only the metadata database keeps a thread of its own."""
    violations = [
        f"{module.at(node)}: {node.attr}"
        for module in modules()
        if module.name not in {"teul.aio", "teul.store.metadata.database"}
        for node in ast.walk(module.tree)
        if isinstance(node, ast.Attribute) and node.attr in {"run_in_executor", "to_thread"}
    ]
    report(violations, "use aio.run_blocking:")


def test_the_engine_never_forks() -> None:
    """Threads and a loop do not survive fork: only what the single-threaded keeper runs may, and a worker on its way into its namespaces."""
    forks = {"os.fork", "os.forkpty", "pty.fork"}
    violations = [
        f"{module.at(node)}: {ast.unparse(node)}"
        for module in modules()
        if module.name not in {*keeper_modules(), "teul.workers.program.confine"}
        for node in ast.walk(module.tree)
        if isinstance(node, ast.Attribute) and ast.unparse(node) in forks
    ]
    report(violations, "ask the keeper to fork:")


def _project_files() -> Iterator[Path]:
    for pattern in ("*", "src/**/*", "tests/**/*", "bench/**/*", "docs/**/*", "tools/**/*", ".ci/*"):
        for path in PROJECT.glob(pattern):
            hidden = any(part.endswith(".egg-info") or part == "__pycache__" for part in path.parts)
            if path.is_file() and not hidden and path != Path(__file__).resolve():
                yield path


def test_no_registry_is_named() -> None:
    """No file ties the project to somebody's registry; tests run their own."""
    violations = []
    for path in _project_files():
        name = str(path.relative_to(PROJECT))
        if name in REGISTRY_HOST_EXCEPTIONS or path.suffix in {".png", ".gz", ".tar", ".pcap"}:
            continue
        text = path.read_text(encoding="utf-8", errors="replace")
        violations += [f"{name}: {host}" for host in REGISTRY_HOSTS if host in text]
    report(violations, "no registry host names in files; take the host from the reference or the configuration:")


@pytest.mark.parametrize(
    ("importer", "imported", "allowed"),
    [
        ("services", "runtime", True),
        ("runtime", "services", False),
        ("services", "api", False),
        ("runtime", "network", False),
        ("api", "store", False),
        ("api", "services", True),
        ("linux", "oci", False),
        ("model", "oci", True),
        ("oci", "model", False),
        ("cli", "client", True),
        ("cli", "services", False),
        ("daemon", "store", True),
        ("oci", "", True),
    ],
)
def test_the_import_rule_knows_right_from_wrong(importer: str, imported: str, *, allowed: bool) -> None:
    """The judge is judged: a rule that lets everything through would pass every test above."""
    assert (_import_problem(importer, imported) is None) == allowed


@pytest.mark.parametrize(
    ("source", "calls"),
    [
        ("open(path, 'w')", ["open(..., 'w')"]),
        ("with open(path, 'wb') as file: file.write(data)", ["open(..., 'wb')"]),
        ("open(path, mode='x', encoding='utf-8')", ["open(..., 'x')"]),
        ("open(path, 'r+b')", ["open(..., 'r+b')"]),
        ("open(path, 'ab')", ["open(..., 'ab')"]),
        ("open(path, mode)", ["open(..., mode)"]),
        ("io.open(path, 'w')", ["open(..., 'w')"]),
        ("Path(path).open('w')", ["open(..., 'w')"]),
        ("tarfile.open(path, 'w:gz')", ["open(..., 'w:gz')"]),
        ("os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)", ["os.O_CREAT", "os.O_TRUNC"]),
        ("FLAGS = os.O_WRONLY | os.O_CREAT", ["os.O_CREAT"]),
        ("from os import O_TRUNC, rename", ["os.O_TRUNC", "os.rename"]),
        ("os.rename(temporary, path)", ["os.rename"]),
        ("os.replace(temporary, path)", ["os.replace"]),
        ("os.renames(temporary, path)", ["os.renames"]),
        ("move = os.rename", ["os.rename"]),
        ("temporary.rename(path)", ["Path.rename"]),
        ("temporary.replace(path)", ["Path.replace"]),
        ("path.write_text('x')", ["Path.write_text"]),
        ("path.write_bytes(b'x')", ["Path.write_bytes"]),
        ("open(path)", []),
        ("open(path, 'rb')", []),
        ("open(path, encoding='ascii')", []),
        ("path.open()", []),
        ("path.open('rb')", []),
        ("self.content.open()", []),
        ("os.open('w', os.O_RDONLY | os.O_CLOEXEC)", []),
        ("os.open(path, os.O_WRONLY)", []),
        ("text.replace('a', 'b')", []),
        ("moment.replace(tzinfo=None)", []),
        ("msgspec.structs.replace(config)", []),
        ("containers.rename(container, name)", []),
        ("replace_file(path, data, durable=True)", []),
    ],
)
def test_the_rule_about_whole_files_knows_writing_from_reading(source: str, calls: list[str]) -> None:
    """The judge is judged here, too."""
    assert sorted(call for _, call in _file_writes(ast.parse(source))) == calls


@pytest.mark.parametrize(
    ("snippet", "refused"),
    [
        ("asyncio.shield(self.commit(images))", True),
        ("shield(work())", True),
        ("asyncio.shield(arg=work())", True),
        ("asyncio.shield(task if task else work())", True),
        ("asyncio.shield(process.exit)", False),
        ("asyncio.shield(watch)", False),
        ("asyncio.shield(self._watches[name])", False),
        ("run_to_end(self.commit(images))", False),
    ],
)
def test_the_rule_of_shields_knows_right_from_wrong(snippet: str, *, refused: bool) -> None:
    call = ast.parse(snippet, mode="eval").body
    assert isinstance(call, ast.Call)
    assert _shields_nameless_work(call) == refused


@pytest.mark.parametrize(
    ("snippet", "refused"),
    [
        ("images.in_use = lambda image_id: []", True),
        ("networks.containers = registry.all", True),
        ("self._networks.containers = self.all", True),
        ("networks.containers: Callable[[], list] = registry.all", True),
        ("first.hook = second.hook = lambda: None", True),
        ("networks.containers = registry.all if registry else tuple", True),
        ("networks.containers = given or registry.all", True),
        ("def users(): ...\nimages.in_use = users", True),
        ("def make():\n    def users(): ...\n    images.in_use = users", True),
        ("from teul.aio import run_blocking as run\nworker.run = run", True),
        ("images.in_use = functools.partial(users, containers)", True),
        ("images.in_use = partial(users, containers)", True),
        ("images.users_of = given", True),
        ("images.users_of = registry.index.users", True),
        ("self.users_of = given", False),
        ("self.in_use = lambda image_id: []", False),
        ("cls.make = registry.all", False),
        ("class Images:\n    def __init__(self, users):\n        self.users = users", False),
        ("class Record:\n    def state(self): ...\ncontainer.state = state", False),
        ("container.state = other.state", False),
        ("container.state = lifecycle.started(container.state)", False),
        ("run.process = process", False),
        ("run.restart = None", False),
        ("everything = registry.all", False),
        ("from elsewhere import run_blocking\nworker.run = run_blocking", False),
    ],
)
def test_the_rule_of_late_callbacks_knows_right_from_wrong(snippet: str, *, refused: bool) -> None:
    found = list(_late_callbacks(ast.parse(snippet), frozenset({"all", "find"}), frozenset({"users_of"})))
    assert bool(found) == refused


def test_methods_are_told_from_data() -> None:
    """The rule of late callbacks hangs on it: `x.attr = events.publish` is refused, `x.attr = container.state` is not."""
    assert {"publish", "resolve", "reserve_name"} <= _method_names()
    assert _method_names().isdisjoint({"state", "counts_as_running", "host_config", "path"})


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        ("users_of: Callable[[str], list[str]]", {"users_of"}),
        (
            "def __init__(self, users: Callable[[str], int], name: str) -> None:\n        self.users_of = users\n        self.name = name",
            {"users_of"},
        ),
        ("def __init__(self, *, users: Callable[[], int] = int) -> None:\n        self.users_of = users", {"users_of"}),
        ("users: dict[str, Callable[[], int]]\n    count: int = 0", set()),
    ],
)
def test_attributes_that_hold_functions_are_known_by_what_is_declared(body: str, expected: set[str]) -> None:
    assert set(_attributes_that_hold_functions(ast.parse(f"class A:\n    {body}"))) == expected


@pytest.mark.parametrize(
    ("snippet", "expected"),
    [
        ("def f():\n    pass", {"f": 2}),
        ("async def f():\n    pass\n\n    pass", {"f": 4}),
        ("class A:\n    def f(self):\n        pass\nclass B:\n    def f(self): ...", {"A.f": 2, "B.f": 1}),
        ("def f():\n    def g():\n        pass\n    return g", {"f": 4, "f.g": 2}),
        ("if x:\n    def f():\n        pass\nelse:\n    def f(): ...", {"f": 2}),
    ],
)
def test_the_rule_of_functions_measures_each_of_them(snippet: str, expected: dict[str, int]) -> None:
    """Two functions of one name in a module are two functions."""
    assert _function_lines(ast.parse(snippet)) == expected


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        ("def a(self): ...\n    async def b(self): ...", 2),
        ("def a(self): ...\n    def _b(self): ...\n    def __len__(self): ...", 1),
        ("@property\n    def a(self): ...\n    @a.setter\n    def a(self, value): ...", 1),
        ("a: int = 1\n    b = print", 0),
        ("class B:\n        def a(self): ...", 0),
    ],
)
def test_the_rule_of_classes_counts_what_others_may_call(body: str, expected: int) -> None:
    assert _public_methods(ast.parse(f"class A:\n    {body}"))["A"] == expected
