"""The rules of the house about who may import whom, who may touch the process, and how large things grow.

A rule nobody executes is a wish. Each test reads the source, finds every violation at once, and says where the code belongs instead.
The exception lists at the top may only shrink: an exception that is no longer needed fails its test too.
"""

from __future__ import annotations

import ast
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
    "oci": 1,
    "model": 1,
    "wire": 1,
    "dockerfile": 1,
    "linux": 2,
    "store": 2,
    "workers": 3,
    "snapshots": 3,
    "runtime": 3,
    "network": 3,
    "registry": 3,
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
    "oci": {"", "errors", "aio"},
    "model": {"", "errors", "aio", "oci"},
    "wire": {"", "errors", "aio"},
    "dockerfile": {"", "errors", "aio", "oci"},
    "linux": {"", "errors", "aio"},
    "api": {"", "errors", "aio", "oci", "model", "wire", "dockerfile", "services"},
    "cri": {"", "errors", "aio", "oci", "model", "wire", "dockerfile", "services"},
    "hub": {"", "errors", "aio", "oci", "model", "wire", "dockerfile", "registry"},
    "client": {"", "errors", "aio", "oci", "model", "wire", "dockerfile"},
    "cli": {"", "errors", "aio", "oci", "model", "wire", "dockerfile", "client"},
    "web": {"", "errors", "aio", "oci", "model", "wire", "dockerfile", "client"},
}

# Inside a room, from below: what stands in one row may not import each other, and nothing of the rows after it.
STAIRS: dict[str, tuple[tuple[str, ...], ...]] = {
    "teul.runtime": (("messages",), ("child",), ("keeper", "engine")),
    "teul.workers": (("program",), ("client",), ("layers", "rootfs")),
    "teul.workers.program": (
        ("messages",),
        ("changes", "confine", "entries", "pack", "report", "streams"),
        ("extract", "place", "resolve", "split", "view"),
        ("layers", "rootfs"),
    ),
    "teul.services": (("events", "host"), ("images", "networks", "volumes"), ("containers",), ("builds",), ("system",)),
    "teul.services.containers": (
        ("errors", "restart_policy", "run"),
        ("registry", "directories"),
        ("bundle",),
        ("request",),
        ("spec",),
        ("filters", "logs", "processes", "update"),
        ("launch",),
        ("service",),
        ("execs", "filesystem", "resources"),
        ("health",),
    ),
    "teul.api": (("http",), ("containers", "images", "networks", "volumes", "builds", "unsupported"), ("system",), ("app",)),
    "teul.cli": (
        ("errors", "table", "templates"),
        ("options", "packing"),
        ("endpoint",),
        ("engine",),
        ("context",),
        ("command",),
        ("format", "session"),
        ("creation",),
        ("commands",),
        ("main",),
    ),
}

# Single imports that the rules above forbid: (importing module, imported module) -> why it must be.
IMPORT_EXCEPTIONS = {
    ("teul.cli.commands.serve", "teul.daemon.main"): "`teul serve` is the door to the composition root; imported when the command runs",
    ("teul.store.atomic", "teul.linux.syscalls"): "syncfs(2) has no name in the standard library",
}

WHAT_BELONGS_WHERE = {
    0: "error kinds, task supervision",
    1: "pure code: documents, records, byte protocols; no I/O",
    2: "thin code at the kernel (linux/) and the disk (store/); no container words",
    3: "mechanisms: snapshots, runtime, network, registry",
    4: "the build graph",
    5: "use cases: the decisions",
    6: "front ends: requests in, answers out, nothing decided",
    7: "the client of our own HTTP API",
    8: "the command line and the dashboard, which know the engine only through its API",
    9: "the wiring of the engine",
}

# What the keeper has loaded when it forks costs every container memory, and what it imports delays the engine's start. Its modules
# are these and what they import, step by step; all of them stand in the rooms named second.
KEEPER_ENTRANCES = ("teul.linux", "teul.runtime.child", "teul.runtime.keeper.keeper", "teul.runtime.keeper.monitor")
KEEPER_ROOMS = ("teul.linux", "teul.runtime", "teul.wire")
KEEPER_STDLIB = {
    "__future__",
    "_socket",
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
}

# What runs inside a worker handles foreign bytes and is started for every job: it loads little, and nothing that decides.
WORKER_ROOM = "teul.workers.program"
WORKER_ROOMS = ("teul.linux", "teul.wire", "teul.store.atomic", WORKER_ROOM)
WORKER_LIBRARIES = ("isal", "zstandard")

# Who may read the environment and the command line, end the process and set up logging.
PROCESS_ROOMS = ("teul.cli", "teul.daemon", "teul.__main__")
PROCESS_EXCEPTIONS = {
    ("teul.runtime.keeper.keeper", "sys.argv"): "a program of its own, started by the engine",
}

JUNK_DRAWERS = {"utils", "util", "helpers", "helper", "common", "misc", "base", "shared", "tools"}

MODULE_LINES = 800
FUNCTION_LINES = 80
LONG_MODULES: set[str] = set()
LONG_FUNCTIONS: set[str] = set()

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
REGISTRY_HOST_EXCEPTIONS = {"src/teul/oci/reference.py"}  # docker: `index.docker.io` is an old spelling of the default domain


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
    sizes = {}
    for module in modules():
        for node in ast.walk(module.tree):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                assert node.end_lineno is not None
                sizes[f"{module.name}:{node.name}"] = node.end_lineno - node.lineno + 1
    too_long = {name for name, lines in sizes.items() if lines > FUNCTION_LINES}
    report([f"{name}: {sizes[name]} lines" for name in sorted(too_long - LONG_FUNCTIONS)], f"over {FUNCTION_LINES} lines; take steps out:")
    report(sorted(LONG_FUNCTIONS - too_long), "no longer too long; take them off LONG_FUNCTIONS:")


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
    """Threads and a loop do not survive fork: only what the single-threaded keeper runs may."""
    forks = {"os.fork", "os.forkpty", "pty.fork"}
    violations = [
        f"{module.at(node)}: {ast.unparse(node)}"
        for module in modules()
        if module.name not in keeper_modules()
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
