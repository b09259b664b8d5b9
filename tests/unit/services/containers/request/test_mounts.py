"""`-v`, `--mount` and `--tmpfs` mean what they mean to Docker."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from teul.errors import InvalidParameter, TeulError
from teul.model.host_config import HostConfig
from teul.model.mount import BindOptions, Mount, TmpfsOptions
from teul.services.containers.request.mounts import clean_path, mount_points, parse_bind, parse_mount, plan_mounts, render_tmpfs_options
from teul.services.containers.request.tmpfs import merge_tmpfs_options


@pytest.mark.parametrize(
    ("raw", "source", "destination", "mode", "read_only", "propagation"),
    [
        ("/a:/b", "/a", "/b", "", False, "rprivate"),
        ("/a:/b:ro", "/a", "/b", "ro", True, "rprivate"),
        ("/a:/b:rw", "/a", "/b", "rw", False, "rprivate"),
        ("/a:/b:z", "/a", "/b", "z", False, "rprivate"),
        ("/a:/b:Z,ro,cached", "/a", "/b", "Z,ro,cached", True, "rprivate"),
        ("/a:/b:rslave", "/a", "/b", "rslave", False, "rslave"),
        ("/a:/b:private,ro", "/a", "/b", "private,ro", True, "private"),
        ("/a//x/../y/:/b//c/", "/a/y", "/b/c", "", False, "rprivate"),
        ("//a://b", "/a", "/b", "", False, "rprivate"),
    ],
)
def test_binds(raw: str, source: str, destination: str, mode: str, *, read_only: bool, propagation: str) -> None:
    mount = parse_bind(raw)
    assert (mount.source, mount.destination, mount.read_only, mount.propagation) == (source, destination, read_only, propagation)
    assert mount.create_source
    assert mount.point is not None
    assert (mount.point.type, mount.point.mode, mount.point.rw, mount.point.propagation) == ("bind", mode, not read_only, propagation)


def _problem(raw: str, kind: str, reason: str) -> str:
    return f"invalid volume specification: '{raw}': invalid mount config for type \"{kind}\": {reason}"


@pytest.mark.parametrize(
    ("raw", "message"),
    [
        ("", "invalid volume specification: ''"),
        (":/b", "invalid volume specification: ':/b'"),
        ("/a:ro", "invalid volume specification: '/a:ro'"),
        ("/a:/b:ro:rw", "invalid volume specification: '/a:/b:ro:rw'"),
        ("/a:/b:fast", "invalid mode: fast"),
        ("/a:/b:ro,rw", "invalid mode: ro,rw"),
        ("/a:/b:rslave,slave", "invalid mode: rslave,slave"),
        ("/a:/b:nocopy", _problem("/a:/b:nocopy", "bind", "field VolumeOptions must not be specified")),
        ("/a:b", _problem("/a:b", "bind", "invalid mount path: 'b' mount path must be absolute")),
        ("/a:/", _problem("/a:/", "bind", "invalid specification: destination can't be '/'")),
        ("vol:/..", _problem("vol:/..", "volume", "invalid specification: destination can't be '/'")),
        ("data", _problem("data", "volume", "invalid mount path: 'data' mount path must be absolute")),
    ],
)
def test_wrong_binds(raw: str, message: str) -> None:
    with pytest.raises(InvalidParameter) as caught:
        parse_bind(raw)
    assert caught.value.message == message


@pytest.mark.parametrize(
    ("mount", "problem"),
    [
        (Mount(type="bind"), "field Target must not be empty"),
        (Mount(type="bind", target="/.."), "invalid specification: destination can't be '/'"),
        (Mount(type="bind", target="t"), "invalid mount path: 't' mount path must be absolute"),
        (Mount(type="npipe", target="/t"), "mount type unknown"),
        (Mount(target="/t"), "mount type unknown"),
        (Mount(type="bind", target="/t"), "field Source must not be empty"),
        (Mount(type="bind", target="/t", source="s"), "invalid mount path: 's' mount path must be absolute"),
        (Mount(type="bind", target="/t", source="/s", bind_options=BindOptions(propagation="up")), "invalid propagation mode: up"),
        (
            Mount(type="bind", target="/t", source="/s", bind_options=BindOptions(read_only_non_recursive=True)),
            "mount options conflict: !ReadOnly && BindOptions.ReadOnlyNonRecursive",
        ),
        (
            Mount(type="bind", target="/t", source="/s", bind_options=BindOptions(read_only_force_recursive=True)),
            "mount options conflict: !ReadOnly && BindOptions.ReadOnlyForceRecursive",
        ),
        (
            Mount(
                type="bind",
                target="/t",
                source="/s",
                read_only=True,
                bind_options=BindOptions(read_only_force_recursive=True, read_only_non_recursive=True),
            ),
            "mount options conflict: ReadOnlyNonRecursive && BindOptions.ReadOnlyForceRecursive",
        ),
        (Mount(type="tmpfs", target="/t", source="/s"), "field Source must not be specified"),
        (Mount(type="tmpfs", target="/t", tmpfs_options=TmpfsOptions(options=[["suid"]])), "invalid option: suid"),
        (Mount(type="tmpfs", target="/t", tmpfs_options=TmpfsOptions(options=[[]])), "invalid option array length"),
        (Mount(type="volume", target="/t", read_only=True), "must not set ReadOnly mode when using anonymous volumes"),
        (Mount(type="image", target="/t"), "field Source must not be empty"),
    ],
)
def test_wrong_mounts(mount: Mount, problem: str) -> None:
    with pytest.raises(InvalidParameter) as caught:
        parse_mount(mount)
    assert caught.value.message == f'invalid mount config for type "{mount.type}": {problem}'


def test_inspection_lists_binds_and_mounts_but_not_tmpfs() -> None:
    """docker: HostConfig.Tmpfs is not among a container's Mounts."""
    mounts = [Mount(type="tmpfs", target="/c", read_only=True)]
    points = mount_points(HostConfig(binds=["/a:/b"], mounts=mounts, tmpfs={"/run": ""}))
    assert [(point.type, point.source, point.destination, point.rw) for point in points] == [
        ("bind", "/a", "/b", True),
        ("tmpfs", "", "/c", False),
    ]


def test_a_tmpfs_covers_a_mount_but_not_a_bind() -> None:
    planned = plan_mounts(HostConfig(mounts=[Mount(type="bind", source="/s", target="/t")], tmpfs={"/t": "size=1m"}))
    assert [(mount.type, mount.tmpfs_options) for mount in planned] == [("tmpfs", "size=1m")]
    with pytest.raises(InvalidParameter, match=r"^Duplicate mount point: /t$"):
        plan_mounts(HostConfig(binds=["/s:/t"], tmpfs={"/t": ""}))


@pytest.mark.parametrize(("size_bytes", "text"), [(1 << 30, "1g"), (3 << 20, "3m"), (5 << 10, "5k"), (1023, "1023")])
def test_tmpfs_sizes_are_short(size_bytes: int, text: str) -> None:
    assert render_tmpfs_options(TmpfsOptions(size_bytes=size_bytes), read_only=True) == f"ro,size={text}"


@pytest.mark.parametrize(
    ("text", "merged"),
    [
        ("", ["noexec", "nosuid", "nodev", "rprivate"]),
        ("exec,suid", ["nodev", "rprivate", "exec", "suid"]),
        ("defaults,rw,size=1m,size=2m", ["noexec", "nosuid", "nodev", "rprivate", "rw", "size=2m"]),
        ("ro,rw,ro", ["noexec", "nosuid", "nodev", "rprivate", "ro"]),
        ("slave,mode=1777", ["noexec", "nosuid", "nodev", "slave", "mode=1777"]),
    ],
)
def test_of_tmpfs_options_that_contradict_the_last_counts(text: str, merged: list[str]) -> None:
    assert merge_tmpfs_options(text) == merged


@pytest.mark.parametrize(("text", "shown"), [("colour", '["colour"]'), ("usrquota=1", '["usrquota" "1"]'), ("size", '["size"]')])
def test_unknown_tmpfs_options(text: str, shown: str) -> None:
    with pytest.raises(InvalidParameter) as caught:
        merge_tmpfs_options(text)
    assert caught.value.message == f"invalid tmpfs option {shown}"


@pytest.mark.parametrize(
    ("path", "clean"), [("/", "/"), ("//", "/"), ("///a//b/", "/a/b"), ("/..", "/"), ("a/../b", "b"), ("/a/./..", "/")]
)
def test_clean_paths(path: str, clean: str) -> None:
    assert clean_path(path) == clean


@given(st.text(alphabet=":/abro,zslave.\\", max_size=24))
def test_any_text_is_a_bind_or_our_own_error(raw: str) -> None:
    try:
        mount = parse_bind(raw)
    except TeulError:
        return
    assert mount.source.startswith("/")
    assert mount.destination.startswith(("/", "\\"))
    assert ".." not in mount.source.split("/")
