"""What a program of the host needs to run: its interpreter, its shared libraries and those that these need, found as by the dynamic loader.

The order is ld.so(8)'s: DT_RPATH (of an object without DT_RUNPATH, and of its loaders), DT_RUNPATH, the cache, the default directories.
A candidate of another class or machine is passed over, as the loader does. `LD_LIBRARY_PATH` is ignored: the image is not to depend
on somebody's session.
"""

from __future__ import annotations

import os

from teul.cli.errors import CliError
from teul.cli.packing.interpreters import library_files, standard_library, warning
from teul.cli.packing.tree import Tree
from teul.wire.elf import MAGIC, Elf, InvalidElf, parse_elf
from teul.wire.ldcache import Entry, InvalidCache, parse_cache

CACHE_PATH = "/etc/ld.so.cache"
_FALLBACK_PATH = ("/usr/local/sbin", "/usr/local/bin", "/usr/sbin", "/usr/bin", "/sbin", "/bin")
_DEFAULT_DIRECTORIES = ("/lib64", "/usr/lib64", "/lib", "/usr/lib")
_MUSL_DIRECTORIES = ("/lib", "/usr/local/lib", "/usr/lib")
# Loaded by libc on demand, so in nobody's DT_NEEDED (nss(5)); parts of libc itself since glibc 2.34.
_NAME_SERVICES = ("libnss_files.so.2", "libnss_dns.so.2")
_SCRIPT_LINE_BYTES = 256
_MAX_INTERPRETERS = 5  # of one script, as in the kernel (BINPRM_MAX_RECURSION)


def load_cache(path: str = CACHE_PATH) -> list[Entry]:
    """The host's loader cache; empty when the host has none. Raises `CliError` for a cache that cannot be read."""
    try:
        with open(path, "rb") as file:
            return parse_cache(file.read())
    except FileNotFoundError:
        return []
    except (OSError, InvalidCache) as error:
        raise CliError(f"cannot read {path}: {error}") from None


class Programs:
    """Adds programs to a tree. `search_path` is the user's PATH; the system's directories are looked into as well."""

    def __init__(self, tree: Tree, search_path: str, cache: list[Entry]) -> None:
        self._tree = tree
        self._directories = [*(part for part in search_path.split(":") if part.startswith("/")), *_FALLBACK_PATH]
        self._cache: dict[str, list[str]] = {}
        for entry in cache:
            # An entry for special processors would tie the image to this machine's processor.
            if not entry.hwcap:
                self._cache.setdefault(entry.name, []).append(entry.path)
        self._seen: set[str] = set()
        self.warnings: list[str] = []  # about programs that need more than can be found out here

    def find(self, name: str) -> str | None:
        """The program's path, or None. A name with a slash is a path already."""
        candidates = [os.path.abspath(name)] if "/" in name else [os.path.join(directory, name) for directory in self._directories]
        return next((path for path in candidates if os.path.isfile(path) and os.access(path, os.X_OK)), None)

    def add(self, name: str, *, depth: int = 0, wanted_by: str = "") -> str:
        """Add the program `name` with all that it needs, and return its path. Raises `CliError` when something is missing."""
        path = self.find(name)
        if path is None:
            raise CliError(f"cannot pack {name}: no such program" + (f", which {wanted_by} needs" if wanted_by else ""))
        real = self._tree.add(path)
        if real in self._seen:
            return path
        self._seen.add(real)
        data = _read(real)
        if data.startswith(MAGIC):
            self._add_binary(real, data)
        elif data.startswith(b"#!"):
            self._add_script(path, data, depth)
        return path

    def _add_script(self, path: str, data: bytes, depth: int) -> None:
        """Add the interpreter of a script; with `/usr/bin/env NAME`, the program NAME too."""
        if depth >= _MAX_INTERPRETERS:
            raise CliError(f"cannot pack {path}: too many interpreters call one another")
        line = data[2:_SCRIPT_LINE_BYTES].partition(b"\n")[0].decode("utf-8", "surrogateescape")
        words = line.split()
        if not words:
            raise CliError(f"cannot pack {path}: its first line names no interpreter")
        self.add(words[0], depth=depth + 1, wanted_by=path)
        if os.path.basename(words[0]) == "env":
            named = next((word for word in words[1:] if not word.startswith("-") and "=" not in word), None)
            if named is not None:
                self.add(named, depth=depth + 1, wanted_by=path)

    def _add_binary(self, path: str, data: bytes) -> None:
        elf = _parse(path, data)
        if elf.interpreter is None:
            return  # the program is static
        loader = self._tree.add(elf.interpreter)
        closure = _Closure(self._tree, self._cache, loader, elf)
        closure.add(path, elf)
        library = standard_library(path)
        if library is not None:
            self._add_standard_library(library, closure)
        elif (text := warning(path)) is not None:
            self.warnings.append(text)

    def _add_standard_library(self, directory: str, closure: _Closure) -> None:
        """Add the modules, those in C with the libraries that they need; one that the host's interpreter could not load is left out."""
        for path in library_files(directory):
            data = _read(path) if path.endswith(".so") else b""
            try:
                if data.startswith(MAGIC):
                    closure.add(path, _parse(path, data))
            except CliError:
                continue
            self._tree.add(path)


class _Closure:
    """The libraries of one program."""

    def __init__(self, tree: Tree, cache: dict[str, list[str]], loader: str, program: Elf) -> None:
        self._tree = tree
        self._abi = program.abi
        self._loader_directory = os.path.dirname(loader)
        musl = os.path.basename(loader).startswith(("ld-musl", "libc.musl"))
        self._cache = {} if musl else cache
        self._defaults = _MUSL_DIRECTORIES if musl else (self._loader_directory, *_DEFAULT_DIRECTORIES)
        self._found: set[str] = {os.path.basename(loader)}

    def add(self, path: str, elf: Elf, inherited: tuple[str, ...] = ()) -> None:
        """Add what `elf`, the object at `path`, needs. `inherited` are the DT_RPATH directories of the objects that loaded it."""
        rpath = () if elf.runpath else (*_expand(elf.rpath, path), *inherited)
        for name in elf.needed:
            self._add_library(name, path, rpath, _expand(elf.runpath, path))
        if any(name.startswith("libc.so.") for name in elf.needed):
            for name in _NAME_SERVICES:
                if name not in self._found and self._candidate(os.path.join(self._loader_directory, name)) is not None:
                    self._add_library(name, path, (), ())

    def _add_library(self, name: str, needed_by: str, rpath: tuple[str, ...], runpath: tuple[str, ...]) -> None:
        if name in self._found:
            return
        self._found.add(name)
        for found, library, cached in self._search(name, rpath, runpath):
            real = self._tree.add(found)
            if cached:
                self._make_findable(name, found)
            self.add(real, library, rpath)
            return
        raise CliError(f"cannot pack {needed_by}: it needs {name}, which is not found")

    def _search(self, name: str, rpath: tuple[str, ...], runpath: tuple[str, ...]) -> list[tuple[str, Elf, bool]]:
        """The first place where the library `name` is, as (path, file, whether only the cache knew the place); empty when there is none."""
        if "/" in name:
            library = self._candidate(name)
            return [(name, library, False)] if library is not None else []
        groups = (
            ([os.path.join(directory, name) for directory in (*rpath, *runpath)], False),
            (self._cache.get(name, []), True),
            ([os.path.join(directory, name) for directory in self._defaults], False),
        )
        for paths, cached in groups:
            for path in paths:
                library = self._candidate(path)
                if library is not None:
                    return [(path, library, cached)]
        return []

    def _candidate(self, path: str) -> Elf | None:
        """The library at `path` if the program can load it."""
        if not os.path.isfile(path):
            return None
        data = _read(path)
        try:
            library = parse_elf(data)
        except InvalidElf:
            return None
        return library if library.abi == self._abi else None

    def _make_findable(self, name: str, path: str) -> None:
        """The image has no cache: a library that only the host's cache led to gets a link where the loader looks by itself."""
        directory = os.path.realpath(os.path.dirname(path))
        if directory not in [os.path.realpath(default) for default in self._defaults]:
            self._tree.make_link(os.path.join(self._loader_directory, name), path)


def _expand(directories: tuple[str, ...], path: str) -> tuple[str, ...]:
    """`$ORIGIN` is where the object itself is; `$LIB` has as many meanings as there are distributions (ld.so(8))."""
    expanded: list[str] = []
    machine = os.uname().machine
    for directory in directories:
        text = directory.replace("${", "$").replace("}", "") if "${" in directory else directory
        text = text.replace("$ORIGIN", os.path.dirname(path)).replace("$PLATFORM", machine)
        expanded += [text.replace("$LIB", word) for word in ("lib64", "lib", f"lib/{machine}-linux-gnu")] if "$LIB" in text else [text]
    return tuple(os.path.normpath(text) for text in expanded if text.startswith("/"))


def _parse(path: str, data: bytes) -> Elf:
    try:
        return parse_elf(data)
    except InvalidElf as error:
        raise CliError(f"cannot pack {path}: {error}") from None


def _read(path: str) -> bytes:
    try:
        with open(path, "rb") as file:
            return file.read()
    except OSError as error:
        raise CliError(f"cannot pack {path}: {error.strerror}") from None
