"""`image pack`: what belongs to a program, where it stands, and the archive's bytes."""

from __future__ import annotations

import hashlib
import io
import json
import os
import stat
import struct
import tarfile
from pathlib import Path
from typing import Any

import pytest

from teul.cli.commands.pack import parse_words
from teul.cli.errors import CliError
from teul.cli.packing import programs as programs_module
from teul.cli.packing.interpreters import warning
from teul.cli.packing.programs import Programs, load_cache
from teul.cli.packing.tree import Tree
from teul.wire.ldcache import Entry
from unit.cli.fake_engine import CommandLine, FakeEngine, stream


def elf(needed: tuple[str, ...] = (), *, interpreter: str | None = None, runpath: str = "", rpath: str = "", machine: int = 62) -> bytes:
    """A small 64-bit file with a dynamic table; without interpreter and needs, a library."""
    texts = [(1, name) for name in needed] + [(29, runpath)] * bool(runpath) + [(15, rpath)] * bool(rpath)
    strings = b"\0" + b"".join(text.encode() + b"\0" for _, text in texts)
    start = 64 + 56 * 3
    loader = (interpreter or "").encode() + b"\0"
    strings_at = start + len(loader)
    dynamic_at = strings_at + len(strings)
    dynamic, offset = b"", 1
    for tag, text in texts:
        dynamic += struct.pack("<qQ", tag, offset)
        offset += len(text.encode()) + 1
    dynamic += struct.pack("<qQqQqQ", 5, strings_at, 10, len(strings), 0, 0)
    total = dynamic_at + len(dynamic)
    segments = [(1, 0, total), (2, dynamic_at, len(dynamic)), (3 if interpreter else 4, start, len(loader))]
    table = b"".join(struct.pack("<IIQQQQQQ", kind, 4, at, at, at, size, size, 1) for kind, at, size in segments)
    header = b"\x7fELF\x02\x01\x01" + b"\0" * 9 + struct.pack("<HHIQQQI6H", 3, machine, 1, 0, 64, 0, 0, 64, 56, 3, 0, 0, 0)
    return header + table + loader + strings + dynamic


@pytest.fixture
def host(tmp_path: Path) -> Path:
    """A host with a merged /usr, a loader, libc and a library beside its program."""
    root = tmp_path / "host"
    for directory in ("usr/bin", "usr/lib", "opt/app/lib", "opt/other"):
        (root / directory).mkdir(parents=True)
    (root / "bin").symlink_to("usr/bin")
    (root / "lib").symlink_to("usr/lib")
    write(root / "usr/lib/ld.so", elf())
    write(root / "usr/lib/libc.so.6", elf((f"{root}/lib/ld.so",)))
    return root


def write(path: Path, data: bytes, mode: int = 0o755) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)
    path.chmod(mode)


def pack(host: Path, *names: str, cache: list[Entry] | None = None) -> set[str]:
    """The packed paths below the host's root, without it."""
    tree = Tree()
    packed = Programs(tree, f"{host}/bin", cache or [])
    for name in names:
        packed.add(name)
    return {path.removeprefix(str(host)) for path in tree.entries if path.startswith(f"{host}/")}


def test_a_program_brings_its_loader_its_libraries_and_the_links_on_the_way(host: Path) -> None:
    loader = f"{host}/lib/ld.so"
    write(host / "usr/bin/tool", elf(("libc.so.6", "libx.so.1"), interpreter=loader, runpath="$ORIGIN/../../opt/app/lib"))
    (host / "usr/lib/libx.so.1").symlink_to("libx.so.1.2")
    write(host / "usr/lib/libx.so.1.2", elf(machine=3))  # another machine's: passed over
    (host / "opt/app/lib/libx.so.1").symlink_to("libx.so.1.2")
    write(host / "opt/app/lib/libx.so.1.2", elf(("libc.so.6",)))
    assert pack(host, "tool") == {
        "/bin",
        "/lib",
        "/usr",
        "/usr/bin",
        "/usr/bin/tool",
        "/usr/lib",
        "/usr/lib/ld.so",
        "/usr/lib/libc.so.6",
        "/opt",
        "/opt/app",
        "/opt/app/lib",
        "/opt/app/lib/libx.so.1",
        "/opt/app/lib/libx.so.1.2",
    }


def test_rpath_is_inherited_but_not_past_a_runpath(host: Path) -> None:
    loader = f"{host}/lib/ld.so"
    write(host / "opt/app/lib/liba.so", elf(("libb.so",)))
    write(host / "opt/app/lib/libb.so", elf())
    write(host / "usr/bin/tool", elf(("liba.so",), interpreter=loader, rpath=f"{host}/opt/app/lib"))
    assert "/opt/app/lib/libb.so" in pack(host, "tool")
    write(host / "usr/bin/tool", elf(("liba.so",), interpreter=loader, runpath="${ORIGIN}/../../opt/app/$LIB"))
    with pytest.raises(CliError, match=r"cannot pack .*liba\.so: it needs libb\.so, which is not found"):
        pack(host, "tool")


def test_what_only_the_cache_knows_gets_a_link_where_the_loader_looks(host: Path) -> None:
    write(host / "opt/other/libz.so.1", elf())
    write(host / "usr/bin/tool", elf(("libz.so.1",), interpreter=f"{host}/lib/ld.so"))
    cache = [Entry("libz.so.1", "/nosuch/libz.so.1", 0, 1 << 62), Entry("libz.so.1", f"{host}/opt/other/libz.so.1", 0, 0)]
    tree = Tree()
    Programs(tree, f"{host}/bin", cache).add("tool")
    link = tree.entries[f"{host}/usr/lib/libz.so.1"]
    assert (link.kind, link.target) == (stat.S_IFLNK, f"{host}/opt/other/libz.so.1")


def test_name_services_come_with_libc(host: Path) -> None:
    write(host / "usr/lib/libnss_files.so.2", elf(("libc.so.6",)))
    write(host / "usr/bin/tool", elf(("libc.so.6",), interpreter=f"{host}/lib/ld.so"))
    assert "/usr/lib/libnss_files.so.2" in pack(host, "tool")


def test_scripts_bring_their_interpreters(host: Path) -> None:
    write(host / "usr/bin/env", elf())
    write(host / "usr/bin/lua", elf())
    write(host / "usr/bin/script", f"#!{host}/bin/env -S lua -x\nprint()\n".encode())
    assert {"/usr/bin/env", "/usr/bin/lua", "/usr/bin/script"} <= pack(host, "script")
    write(host / "usr/bin/broken", b"#!/nosuch/sh\n")
    with pytest.raises(CliError, match=f"cannot pack /nosuch/sh: no such program, which {host}/bin/broken needs"):
        pack(host, "broken")
    write(host / "usr/bin/empty", b"#!  \n")
    with pytest.raises(CliError, match="names no interpreter"):
        pack(host, "empty")


def test_interpreters_that_call_one_another_for_ever_are_refused(host: Path) -> None:
    for index in range(8):
        write(host / f"usr/bin/s{index}", f"#!{host}/usr/bin/s{index + 1}\n".encode())
    with pytest.raises(CliError, match="too many interpreters"):
        pack(host, "s0")


def test_multi_call_links_and_names_with_a_slash(host: Path) -> None:
    write(host / "usr/bin/busybox", elf())
    (host / "usr/bin/ls").symlink_to("busybox")
    assert {"/usr/bin/busybox", "/usr/bin/ls"} <= pack(host, "ls")
    assert {"/usr/bin/busybox", "/usr/bin/ls"} <= pack(host, f"{host}/bin/ls", "busybox")


def test_a_file_that_is_no_program_of_any_kind_is_taken_as_it_is(host: Path) -> None:
    write(host / "usr/bin/data", b"\x7fELF but not really")
    with pytest.raises(CliError, match="cannot pack"):
        pack(host, "data")
    write(host / "usr/bin/data", b"plain")
    assert "/usr/bin/data" in pack(host, "data")


def test_a_library_with_a_path_for_a_name(host: Path) -> None:
    write(host / "usr/bin/tool", elf((f"{host}/opt/other/liby.so",), interpreter=f"{host}/lib/ld.so"))
    with pytest.raises(CliError, match="which is not found"):
        pack(host, "tool")
    write(host / "opt/other/liby.so", elf())
    assert "/opt/other/liby.so" in pack(host, "tool")


def test_the_cache_of_the_host(tmp_path: Path) -> None:
    assert load_cache(str(tmp_path / "none")) == []
    (tmp_path / "cache").write_bytes(b"junk")
    with pytest.raises(CliError, match="no magic number"):
        load_cache(str(tmp_path / "cache"))


def test_chains_of_links_are_kept_and_circles_refused(tmp_path: Path) -> None:
    (tmp_path / "real").write_text("x")
    (tmp_path / "b").symlink_to("./real")
    (tmp_path / "a").symlink_to(f"{tmp_path}/sub/../b")
    (tmp_path / "sub").mkdir()
    tree = Tree()
    assert tree.add(f"{tmp_path}/a") == f"{tmp_path}/real"
    assert {f"{tmp_path}/{name}" for name in ("a", "b", "real", "sub")} <= set(tree.entries)
    (tmp_path / "c").symlink_to("c")
    with pytest.raises(CliError, match="too many levels of symbolic links"):
        tree.add(f"{tmp_path}/c")
    with pytest.raises(CliError, match=r"cannot pack .*/none: No such file or directory"):
        tree.add(f"{tmp_path}/none")
    (tmp_path / "d").symlink_to("gone")
    with pytest.raises(CliError, match=r"/d \(.*/gone\): No such file"):
        tree.add(f"{tmp_path}/d")


def test_trees_are_taken_whole_without_sockets(tmp_path: Path) -> None:
    (tmp_path / "t" / "sub").mkdir(parents=True)
    (tmp_path / "t" / "sub" / "file").write_text("x")
    (tmp_path / "t" / "dangling").symlink_to("nowhere")
    os.mknod(tmp_path / "t" / "socket", stat.S_IFSOCK | 0o600)
    tree = Tree()
    tree.add_tree(f"{tmp_path}/t")
    below = {path for path in tree.entries if path.startswith(f"{tmp_path}/t")}
    assert below == {f"{tmp_path}/t{name}" for name in ("", "/sub", "/sub/file", "/dangling")}
    os.mkfifo(tmp_path / "t" / "fifo")
    with pytest.raises(CliError, match="neither a file, a directory nor a symbolic link"):
        tree.add_tree(f"{tmp_path}/t")
    tree.add_tree(f"{tmp_path}/t/sub/file")


@pytest.fixture
def packer(host: Path, teul: CommandLine, monkeypatch: pytest.MonkeyPatch) -> CommandLine:
    """`teul` on a machine with one program, `tool`."""
    write(host / "usr/bin/tool", elf())
    teul.environment["PATH"] = f"{host}/bin"
    monkeypatch.setattr(programs_module, "_FALLBACK_PATH", ())
    monkeypatch.setattr(programs_module.load_cache, "__defaults__", (f"{host}/none",))
    return teul


def archive(data: bytes) -> dict[str, bytes]:
    with tarfile.open(fileobj=io.BytesIO(data)) as opened:
        return {member.name: opened.extractfile(member).read() for member in opened if member.isfile()}  # type: ignore[union-attr]


def test_the_archive_is_an_oci_layout_and_a_docker_archive(packer: CommandLine, engine: FakeEngine, host: Path) -> None:
    engine.routes = {"POST /images/load": stream({"stream": "Loaded image: local/x:latest\n"})}
    for file in host.rglob("*"):
        os.utime(file, (1_000_000_000, 1_000_000_000))
    outcome = packer("image", "pack", "-t", "local/x", "-t", "y:z", "-e", "A=1", "--cmd", "tool 'a b'", "--entrypoint", '["/e"]', "tool")
    assert (outcome.status, outcome.out, outcome.err) == (0, "Loaded image: local/x:latest\n", "")
    files = archive(engine.requests[0].body)
    for name, content in files.items():
        if name.startswith("blobs/"):
            assert name == f"blobs/sha256/{hashlib.sha256(content).hexdigest()}"
    index = json.loads(files["index.json"])
    names = [descriptor["annotations"]["io.containerd.image.name"] for descriptor in index["manifests"]]
    assert names == ["local/x:latest", "y:z"]
    manifest = json.loads(files[blob(index["manifests"][0])])
    config = json.loads(files[blob(manifest["config"])])
    assert config["rootfs"]["diff_ids"] == [manifest["layers"][0]["digest"]]
    assert config["created"] == "2001-09-09T01:46:40Z", "as old as the youngest of its files"
    path = f"PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin:{host}/bin"
    assert config["config"] == {"Env": [path, "A=1"], "Entrypoint": ["/e"], "Cmd": ["tool", "a b"], "WorkingDir": "/"}
    docker = json.loads(files["manifest.json"])[0]
    assert docker == {"Config": blob(manifest["config"]), "RepoTags": names, "Layers": [blob(manifest["layers"][0])]}
    members = {member.name: member for member in tarfile.open(fileobj=io.BytesIO(files[blob(manifest["layers"][0])]))}
    assert list(members) == sorted(members)
    assert {(member.uid, member.gid, member.uname, member.mtime) for member in members.values()} == {(0, 0, "", 0)}
    assert members["tmp"].mode == 0o1777
    assert members["root"].mode == 0o700
    assert {"etc/passwd", "etc/group", "etc/nsswitch.conf", "proc", "sys", "dev"} <= set(members)


def blob(descriptor: dict[str, Any]) -> str:
    return "blobs/" + str(descriptor["digest"]).replace(":", "/")


def test_the_same_input_gives_the_same_bytes(packer: CommandLine, tmp_path: Path, host: Path) -> None:
    outputs = []
    for index in range(2):
        os.utime(host / "usr/bin/tool", (index, 0))
        assert packer("image", "pack", "-o", str(tmp_path / "x.tar"), "tool").status == 0
        outputs.append((tmp_path / "x.tar").read_bytes())
    assert outputs[0] == outputs[1]
    packer.environment["SOURCE_DATE_EPOCH"] = "86400"
    assert packer("image", "pack", "-o", str(tmp_path / "x.tar"), "tool").status == 0
    assert b"1970-01-02T00:00:00Z" in (tmp_path / "x.tar").read_bytes()


def test_a_python_brings_its_standard_library(host: Path) -> None:
    """Modules in C with the libraries that they need; what the host could not load either, tests and other packages stay."""
    write(host / "lib/x.so", elf())
    write(host / "opt/bin/python3.99", elf(interpreter=f"{host}/lib/ld.so"))
    library = host / "opt/lib/python3.99"
    for name in ("os.py", "json/__init__.py", "test/test_os.py", "site-packages/other.py", "__pycache__/os.pyc"):
        write(library / name, b"# python\n", 0o644)
    write(library / "lib-dynload/good.so", elf(("libm.so",), runpath=f"{host}/opt/lib"))
    write(host / "opt/lib/libm.so", elf())
    write(library / "lib-dynload/bad.so", elf(("libgone.so",)))
    found = pack(host, f"{host}/opt/bin/python3.99")
    below = {name.removeprefix("/opt/lib/python3.99/") for name in found if name.startswith("/opt/lib/python3.99/")}
    assert {"os.py", "json/__init__.py", "lib-dynload/good.so"} <= below
    assert "/opt/lib/libm.so" in found
    assert not {"test/test_os.py", "site-packages/other.py", "__pycache__/os.pyc", "lib-dynload/bad.so"} & below


def test_a_python_without_its_standard_library_is_refused(host: Path) -> None:
    write(host / "opt/bin/python3.98", elf(interpreter=f"{host}/lib/ld.so"))
    with pytest.raises(CliError, match=r"its standard library is not in .*/opt/lib/python3\.98"):
        pack(host, f"{host}/opt/bin/python3.98")


def test_other_interpreters_are_warned_of() -> None:
    assert str(warning("/usr/bin/perl5.36.0")).startswith("perl5.36.0 loads modules from directories of its own")
    assert warning("/usr/bin/perldoc") is None


def test_a_file_of_the_user_wins_over_a_made_up_one(packer: CommandLine, tmp_path: Path) -> None:
    assert packer("image", "pack", "-o", str(tmp_path / "x.tar"), "--path", "/etc/passwd").status == 0
    files = archive((tmp_path / "x.tar").read_bytes())
    layer = max(files.values(), key=len)
    opened = tarfile.open(fileobj=io.BytesIO(layer))
    assert opened.extractfile("etc/passwd").read() == Path("/etc/passwd").read_bytes()  # type: ignore[union-attr]


@pytest.mark.parametrize(
    ("arguments", "status", "message"),
    [
        (["-t", "x", "nosuch1", "tool", "nosuch2"], 1, "cannot pack: no such programs: nosuch1, nosuch2\n"),
        (["-t", "x", "nosuch1"], 1, "cannot pack: no such program: nosuch1\n"),
        (["-t", "x"], 1, "nothing to pack: name a program, or a file with --path\n"),
        (["tool"], 1, "the image needs a name (--tag), or a file to be written to (--output)\n"),
        (["-t", "X", "tool"], 125, 'invalid argument "X" for "-t, --tag" flag: '),
        (["-t", f"x@sha256:{'0' * 64}", "tool"], 125, "cannot have a digest"),
        (["-t", "x", "-e", "=", "tool"], 1, "invalid environment variable: =\n"),
        (["-o", "/nosuch/x.tar", "tool"], 1, "cannot write /nosuch/x.tar: No such file or directory\n"),
        (["-t", "x", "--path", "/nosuch"], 1, "cannot pack /nosuch: No such file or directory\n"),
        (["-t", "x", "--cmd", "[1]", "tool"], 1, "not a JSON array of strings: [1]\n"),
    ],
)
def test_refusals(packer: CommandLine, arguments: list[str], status: int, message: str) -> None:
    outcome = packer("image", "pack", *arguments)
    assert outcome.status == status
    assert message in outcome.err


def test_the_time_must_be_a_number(packer: CommandLine) -> None:
    packer.environment["SOURCE_DATE_EPOCH"] = "soon"
    assert packer("image", "pack", "-t", "x", "tool").err == "SOURCE_DATE_EPOCH is not a number of seconds: 'soon'\n"


def test_the_default_command(packer: CommandLine, tmp_path: Path, host: Path) -> None:
    write(host / "usr/bin/sh", elf())
    for programs, command in ((["tool", "sh"], ["sh"]), (["tool"], ["tool"])):
        assert packer("image", "pack", "-o", str(tmp_path / "x.tar"), *programs).status == 0
        files = archive((tmp_path / "x.tar").read_bytes())
        config = json.loads(files[json.loads(files["manifest.json"])[0]["Config"]])
        assert config["config"]["Cmd"] == command


def test_commands_as_words_or_json() -> None:
    assert parse_words("a 'b c'") == ["a", "b c"]
    assert parse_words('["a", "b c"]') == ["a", "b c"]
    for text in ("[", "a 'b"):
        with pytest.raises(CliError):
            parse_words(text)
