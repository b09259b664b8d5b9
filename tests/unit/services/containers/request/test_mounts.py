"""`-v`, `--mount` and `--tmpfs` mean what they mean to Docker."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from teul.errors import InvalidParameter, TeulError
from teul.model.host_config import HostConfig
from teul.model.mount import BindOptions, ImageOptions, Mount, TmpfsOptions, VolumeOptions
from teul.services.containers.request.mounts import (
    clean_path,
    inherit,
    parse_bind,
    parse_mount,
    parse_volumes_from,
    plan_mounts,
    render_tmpfs_options,
)
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
        ("/a:/b:rshared", "/a", "/b", "rshared", False, "rshared"),
        ("/a:/b:ro,idmap,slave", "/a", "/b", "ro,idmap,slave", True, "slave"),
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
        ("/a:/b:idmap,idmap", "invalid mode: idmap,idmap"),
        ("/a:/b:idmap=", "invalid mode: idmap="),
        ("/a:/b:idmapped", "invalid mode: idmapped"),
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
    planned = plan_mounts(HostConfig(binds=["/a:/b"], mounts=mounts, tmpfs={"/run": ""}))
    points = [mount.point for mount in planned if mount.point is not None]
    assert [(point.type, point.source, point.destination, point.rw) for point in points] == [
        ("bind", "/a", "/b", True),
        ("tmpfs", "", "/c", False),
    ]


def test_volumes_are_named_or_not() -> None:
    """docker: of -v a name alone is the destination's, and "z" is shown where nothing was said; an image's VOLUME gives way to the client."""
    mounts = [Mount(type="volume", source="db", target="/m", volume_options=VolumeOptions(no_copy=True, subpath="a/b"))]
    host_config = HostConfig(binds=["/anonymous", "named:/n:ro,nocopy", "/host:/v"], mounts=mounts, volume_driver="local")
    planned = {mount.destination: mount for mount in plan_mounts(host_config, volumes=["/v", "/x/", "/m"])}
    assert {place: (mount.type, mount.name, mount.is_anonymous) for place, mount in planned.items()} == {
        "/anonymous": ("volume", "", True),
        "/n": ("volume", "named", False),
        "/v": ("bind", "", False),
        "/m": ("volume", "db", False),
        "/x": ("volume", "", True),
    }
    assert (planned["/n"].read_only, planned["/n"].no_copy, planned["/n"].driver) == (True, True, "local")
    assert (planned["/m"].no_copy, planned["/m"].subpath) == (True, "a/b")
    points = [(mount.point.mode, mount.point.rw) for mount in planned.values() if mount.point is not None]
    assert points == [("z", True), ("ro,nocopy", False), ("", True), ("z", True), ("", True)]


@pytest.mark.parametrize(
    ("text", "parsed"), [("other", ("other", False)), ("other:ro", ("other", True)), ("other:rw,z", ("other", False)), ("a:", ("a", False))]
)
def test_volumes_from(text: str, parsed: tuple[str, bool]) -> None:
    assert parse_volumes_from(text) == parsed


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("", "volumes-from specification cannot be an empty string"),
        ("other:odd", "invalid mode: odd"),
        ("other:shared", "invalid mode: shared"),
        ("other:nocopy", "invalid mode: nocopy"),
    ],
)
def test_wrong_volumes_from(text: str, problem: str) -> None:
    with pytest.raises(InvalidParameter) as caught:
        parse_volumes_from(text)
    assert caught.value.message == problem


def test_what_is_inherited() -> None:
    """docker: not what is in memory; read-only stays so; nothing is copied a second time; what the client says itself comes first."""
    donor = plan_mounts(HostConfig(binds=["/host:/b:ro,z", "vol:/v", "vol:/w"], tmpfs={"/t": ""}))
    inherited = inherit(donor, read_only=False)
    assert [(mount.destination, mount.read_only, mount.no_copy) for mount in inherited] == [
        ("/b", True, True),
        ("/v", False, True),
        ("/w", False, True),
    ]
    assert [mount.point.mode for mount in inherited if mount.point is not None] == ["", "", ""]
    assert all(mount.read_only for mount in inherit(donor, read_only=True))
    planned = {mount.destination: mount.name for mount in plan_mounts(HostConfig(binds=["own:/v"]), inherited=inherited, volumes=["/w"])}
    assert planned == {"/b": "", "/v": "own", "/w": "vol"}


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
    assert mount.source.startswith("/") or (mount.type == "volume" and not mount.source)
    assert mount.destination.startswith(("/", "\\"))
    assert ".." not in mount.source.split("/")


@pytest.mark.parametrize(
    ("raw", "id_map"),
    [
        ("/a:/b", ""),
        ("/a:/b:idmap", "owner"),
        ("/a:/b:idmap=owner,ro", "owner"),
        ("vol:/b:nocopy,idmap=uids=1-2-3;gids=4-5-6", "uids=1-2-3;gids=4-5-6"),
    ],
)
def test_which_owners_a_bind_shows(raw: str, id_map: str) -> None:
    mount = parse_bind(raw)
    assert mount.point is not None
    assert (mount.id_map, mount.point.id_map) == (id_map, id_map)


def test_an_image_is_read_only_whatever_is_said() -> None:
    mount = parse_mount(Mount(type="image", source="a:1", target="/m//", image_options=ImageOptions(subpath="b/c")))
    assert (mount.type, mount.source, mount.destination, mount.subpath, mount.read_only) == ("image", "a:1", "/m", "b/c", True)
    assert mount.point is not None
    assert (mount.point.name, mount.point.rw, mount.point.propagation) == ("a:1", False, "rprivate")


def test_words_about_owners_are_none_of_other_containers_mounts() -> None:
    with pytest.raises(InvalidParameter, match="invalid mode: idmap"):
        parse_volumes_from("donor:idmap")


def test_binds_of_older_clients_are_read_only_at_the_top() -> None:
    """Below API 1.44; what a bind says of itself counts."""
    host_config = HostConfig(
        binds=["/a:/a:ro", "/b:/b", "vol:/c:ro"],
        mounts=[
            Mount(type="bind", source="/d", target="/d", read_only=True),
            Mount(type="bind", source="/e", target="/e", read_only=True, bind_options=BindOptions(read_only_force_recursive=True)),
        ],
    )
    shallow = {mount.destination for mount in plan_mounts(host_config, shallow_read_only=True) if mount.read_only_non_recursive}
    assert shallow == {"/a", "/d"}
    assert not any(mount.read_only_non_recursive for mount in plan_mounts(host_config))
