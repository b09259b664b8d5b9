"""Archives that are corrupt, truncated or hostile are refused with a clear error and leave nothing; nothing is written outside."""

from __future__ import annotations

import hashlib
import io
import json
import os
import tarfile
from pathlib import Path

import pytest

from support import images
from support.engine import Engine
from support.images import Entry, Image, directory, file, hard_link, pack, symlink
from support.needs import needs

pytestmark = [needs("root", "docker_cli", "busybox", "overlayfs")]

_BASE = images.busybox_entries()


def one_layer(*entries: Entry) -> bytes:
    return Image(("hostile:1",), (pack([*_BASE, *entries]),), {"Cmd": ["true"]}).docker_archive()


def two_layers(*entries: Entry) -> bytes:
    return Image(("hostile:1",), (pack(_BASE), pack(entries)), {"Cmd": ["true"]}).docker_archive()


def stored(engine: Engine) -> dict[str, int]:
    """Everything below the root but the database's own files, with sizes."""
    found = {}
    for path in engine.root.rglob("*"):
        if not path.name.startswith("teul.db") and path.is_file() and not path.is_symlink():
            found[str(path.relative_to(engine.root))] = path.stat().st_size
    return found


def replaced(archive: bytes, name_part: str, change: bytes | None) -> bytes:
    """The archive with one member's data changed, or the member left out."""
    result = io.BytesIO()
    with tarfile.open(fileobj=io.BytesIO(archive)) as old, tarfile.open(fileobj=result, mode="w") as new:
        for member in old.getmembers():
            source = old.extractfile(member)
            data = source.read() if source is not None else b""
            if name_part in member.name and member.isfile():
                if change is None:
                    continue
                data = change
                member.size = len(data)
            new.addfile(member, io.BytesIO(data))
    return result.getvalue()


# Of no image that is loaded already: an engine need not read a layer again that it has.
_IMAGE = Image(("corrupt:1",), (pack([*_BASE, file("only-here", "x")]),), {"Cmd": ["true"]})
_GOOD = _IMAGE.docker_archive()
_GOOD_OCI = _IMAGE.oci_archive("gzip")
_CONFIG = _IMAGE.config_id.removeprefix("sha256:")
_LAYER_DIGEST = hashlib.sha256(_IMAGE.layers[0]).hexdigest()

CORRUPT = {
    "not a tar": b"this is not an archive",
    "empty": b"",
    "an empty tar": pack([]),
    "truncated in a header": _GOOD[:700],
    "truncated in a layer": _GOOD[: len(_GOOD) // 2],
    "truncated gzip": images.compress(_GOOD, "gzip")[:50_000],
    "truncated zstd": images.compress(_GOOD, "zstd")[:50_000],
    "no manifest": replaced(_GOOD, "manifest.json", None),
    "manifest is not JSON": replaced(_GOOD, "manifest.json", b"{nonsense"),
    "manifest of another shape": replaced(_GOOD, "manifest.json", b'{"a": 1}'),
    "manifest names a missing layer": replaced(_GOOD, "layer.tar", None),
    "layer does not match its diff_id": replaced(_GOOD, "layer.tar", pack([file("other", "data")])),
    "config is not JSON": replaced(_GOOD, _CONFIG, b"nonsense"),
    "config of another shape": replaced(_GOOD, _CONFIG, b'{"rootfs": 5}'),
    "manifest points outside": replaced(
        _GOOD,
        "manifest.json",
        json.dumps([{"Config": "../../../etc/passwd", "RepoTags": ["hostile:1"], "Layers": ["/etc/shadow"]}]).encode(),
    ),
    "bad name": replaced(
        _GOOD,
        "manifest.json",
        json.dumps([{"Config": f"{_CONFIG}.json", "RepoTags": ["../BAD NAME"], "Layers": [f"{_LAYER_DIGEST}/layer.tar"]}]).encode(),
    ),
    "OCI blob is missing": replaced(_GOOD_OCI, _CONFIG, None),
    "OCI blob does not match its digest": replaced(_GOOD_OCI, _CONFIG, b"{}"),
    "layer is not a tar": replaced(_GOOD, "layer.tar", b"x" * 5000),
}


@pytest.mark.parametrize("name", CORRUPT)
def test_corrupt_archive_is_refused_and_leaves_nothing(engine: Engine, name: str) -> None:
    """Exit code 1, a sentence that is no traceback, and not one byte more on the disk."""
    before, images_before = stored(engine), engine.must("images", "-a", "--no-trunc", "-q")
    output = engine.docker("load", stdin=CORRUPT[name])
    assert output.exit_code == 1, output.stdout
    assert output.stderr.strip()
    assert "Traceback" not in output.stderr
    assert engine.must("images", "-a", "--no-trunc", "-q") == images_before
    assert stored(engine) == before
    assert not engine.base.joinpath("passwd").exists()


ESCAPES = {
    "absolute path": (file("/teul-escaped-absolute", "x"),),
    "dot-dot path": (file("../../../../../../../../teul-escaped-dots", "x"),),
    "through a symlink": (symlink("way", "/"), file("way/teul-escaped-symlink", "x")),
    "through a relative symlink": (symlink("way", "../../../../../../../.."), file("way/teul-escaped-relative", "x")),
    "hard link to the host": (hard_link("stolen", "/etc/shadow"), hard_link("stolen2", "../../../../../../../etc/shadow")),
    "hard link through a symlink": (symlink("way", "/etc"), hard_link("stolen", "way/shadow")),
    "whiteout with dots": (file("../../../../../../../../tmp/.wh.teul-victim", ""),),
    "whiteout through a symlink": (symlink("way", "/tmp"), file("way/.wh.teul-victim", "")),
    "whiteout of a parent": (directory("d"), file("d/.wh...", ""), file("d/.wh..", "")),
    "opaque through a symlink": (symlink("way", "/tmp"), file("way/.wh..wh..opq", "")),
    "directory over a symlink": (symlink("way", "/tmp"), directory("way", 0o000)),
}


@pytest.mark.parametrize("layers", [one_layer, two_layers], ids=["same-layer", "upper-layer"])
@pytest.mark.parametrize("name", ESCAPES)
def test_hostile_layer_touches_nothing_outside(engine: Engine, name: str, layers: object) -> None:
    """Whether such an archive is refused or made harmless: no path of the host is written, removed, linked or re-moded."""
    assert callable(layers)
    victim = Path("/tmp/teul-victim")
    victim.write_text("precious")
    mode_before, shadow_links = os.stat("/tmp").st_mode, os.stat("/etc/shadow").st_nlink
    try:
        output = engine.docker("load", stdin=layers(*ESCAPES[name]))
        if output.exit_code == 0:
            shadow = Path("/etc/shadow").read_text()
            seen = engine.docker("run", "--rm", "hostile:1", "sh", "-c", "cat /stolen /stolen2 2>/dev/null")
            assert not shadow.strip() or shadow not in seen.stdout, f"DANGER: the image reads the host's /etc/shadow ({name})"
        assert victim.read_text() == "precious", f"DANGER: a whiteout removed a file of the host ({name})"
    finally:
        victim.unlink(missing_ok=True)
        engine.docker("rmi", "-f", "hostile:1")
    escaped = [
        str(path) for path in (*Path("/").glob("teul-escaped*"), *engine.base.rglob("teul-escaped*")) if "snapshots" not in path.parts
    ]
    for path in escaped:
        os.unlink(path)
    assert not escaped, f"DANGER: the archive wrote outside of its layer ({name}): {escaped}"
    assert os.stat("/tmp").st_mode == mode_before, f"DANGER: the archive changed the mode of /tmp ({name})"
    assert os.stat("/etc/shadow").st_nlink == shadow_links, f"DANGER: the archive linked to /etc/shadow ({name})"


def test_compressed_layers_of_every_kind_give_the_same_files(engine: Engine) -> None:
    """gzip, zstd and plain are transport: each is an image by its own digest, and config, layers and files are the same, stored once."""
    ids = set()
    layers = len(os.listdir(engine.root / "snapshots"))
    for compression in ("none", "gzip", "zstd"):
        engine.must("load", stdin=images.layered().oci_archive(compression))
        ids.add(engine.must("inspect", "--format", "{{.Id}}", images.layered().config_id))
        assert engine.must("inspect", "--format", "{{.Id}}", "judge/layers:1") in ids
        diff_ids = [f"sha256:{hashlib.sha256(layer).hexdigest()}" for layer in images.layered().layers]
        assert json.loads(engine.must("inspect", "--format", "{{json .RootFS.Layers}}", "judge/layers:1")) == diff_ids
        assert len(os.listdir(engine.root / "snapshots")) == layers
    assert len(ids) == 3
    assert engine.must("run", "--rm", "judge/layers:1", "ls", "/data").splitlines()[1:] == ["also-kept", "kept", "null", "owned"]


@pytest.mark.parametrize("compression", ["gzip", "zstd"])
def test_whole_archive_may_be_compressed(engine: Engine, compression: str) -> None:
    """And the untouched archive of the table above is a good one."""
    assert engine.docker("load", stdin=images.compress(_GOOD, compression)).stdout == "Loaded image: corrupt:1\n"
    engine.must("rmi", "corrupt:1")


def test_shared_layer_is_unpacked_once(engine: Engine) -> None:
    """Two images with a common layer need the disk of one."""
    base = pack([*_BASE, file("large", os.urandom(3_000_000))])
    engine.must("load", stdin=Image(("shared:1",), (base,), {"Cmd": ["true"]}).docker_archive())
    before = sum(stored(engine).values())
    engine.must("load", stdin=Image(("shared:2",), (base, pack([file("small", "x")])), {"Cmd": ["true"]}).docker_archive())
    assert sum(stored(engine).values()) - before < 500_000
    engine.must("rmi", "shared:1")
    assert engine.must("run", "--rm", "shared:2", "sh", "-c", "wc -c < /large") == "3000000"
    engine.must("rmi", "shared:2")
    assert sum(stored(engine).values()) < before


def test_metadata_of_files_is_kept(engine: Engine) -> None:
    """Owners, modes with setuid, times, extended attributes, hard links, devices and fifos come out as they went in."""
    entries = (
        file("m/suid", "x", 0o4755),
        file("m/owned", "x", 0o640, uid=1234, gid=2345),
        file("m/capable", "x", 0o755, xattrs={"user.judge": "seen"}),
        Entry("m/fifo", kind=tarfile.FIFOTYPE, mode=0o600),
        Entry("m/zero", kind=tarfile.CHRTYPE, mode=0o666, device=(1, 5)),
        hard_link("m/linked", "m/suid", 0o4755),
        symlink("m/dangling", "/nowhere/at/all"),
        file("m/" + "long-name-" * 20, "x"),
        file("m/이름", "x"),
    )
    engine.must("load", stdin=one_layer(directory("m"), *entries))
    command = "cd /m; stat -c '%n %F %a %u %g %h %Y %t,%T' suid owned fifo zero linked dangling 이름; readlink dangling; ls | wc -l"
    lines = engine.must("run", "--rm", "hostile:1", "sh", "-c", command).splitlines()
    engine.must("rmi", "hostile:1")
    time = str(images.MODIFIED_AT)
    assert lines == [
        f"suid regular file 4755 0 0 2 {time} 0,0",
        f"owned regular file 640 1234 2345 1 {time} 0,0",
        f"fifo fifo 600 0 0 1 {time} 0,0",
        f"zero character special file 666 0 0 1 {time} 1,5",
        f"linked regular file 4755 0 0 2 {time} 0,0",
        f"dangling symbolic link 777 0 0 1 {time} 0,0",
        f"이름 regular file 644 0 0 1 {time} 0,0",
        "/nowhere/at/all",
        "9",
    ]
