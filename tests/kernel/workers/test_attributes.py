"""What `attributes` says of attributes is what the kernel does with them."""

from __future__ import annotations

import errno
import os
import stat
import struct
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from support.needs import needs
from teul.workers.program.attributes import ACCESS_ACL, CAPABILITY, DEFAULT_ACL, accepted, under_mode
from teul.workers.program.entries import Refused

pytestmark = needs("root")

_ACLS = (ACCESS_ACL, DEFAULT_ACL)
_settings = settings(
    max_examples=400, derandomize=True, database=None, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)

_tags = st.sampled_from([1, 2, 4, 8, 16, 32])
_entries = st.one_of(
    # In order, as they should be, with some left out; and in any order.
    st.lists(_tags, max_size=8).map(sorted),
    st.lists(_tags, max_size=5),
    st.sampled_from([[1, 4, 32], [1, 2, 4, 16, 32], [1, 4, 8, 8, 16, 32], [1, 4, 16, 32], [1, 2, 2, 4, 8, 16, 32], [1, 4, 64, 32]]),
)


@st.composite
def _acls(draw: st.DrawFn) -> bytes:
    version = draw(st.sampled_from([2] * 20 + [1, 3]))
    permissions = st.sampled_from([0, 1, 2, 4, 5, 6, 7] * 4 + [8])
    ids = st.sampled_from([0, 1, 1000, 2**31, 2**32 - 2] * 3 + [2**32 - 1])
    value = struct.pack("<I", version) + b"".join(struct.pack("<HHI", tag, draw(permissions), draw(ids)) for tag in draw(_entries))
    return value[: len(value) - draw(st.sampled_from([0] * 20 + [1, 4, 8]))]


@pytest.fixture
def files(tmp_path: Path) -> dict[int, str]:
    try:
        os.setxattr(tmp_path, ACCESS_ACL, struct.pack("<I", 2))
    except OSError as error:
        assert error.errno == errno.ENOTSUP
        pytest.skip("the file system has no access control lists")
    paths = {kind: str(tmp_path / str(kind)) for kind in (stat.S_IFREG, stat.S_IFDIR, stat.S_IFIFO, stat.S_IFLNK)}
    for kind, path in paths.items():
        _make(kind, path)
    return paths


def _make(kind: int, path: str) -> None:
    if kind == stat.S_IFDIR:
        os.mkdir(path)
    elif kind == stat.S_IFLNK:
        os.symlink("nowhere", path)
    else:
        os.mknod(path, kind | 0o644)


def _renew(kind: int, path: str) -> None:
    if kind == stat.S_IFDIR:
        os.rmdir(path)
    else:
        os.unlink(path)
    _make(kind, path)


def _kernels(kind: int, path: str, name: bytes, value: bytes, mode: int) -> dict[bytes, bytes] | None:
    """The attributes of a new file that was given one, and then its mode; None if the value was refused."""
    _renew(kind, path)
    try:
        os.setxattr(path, name, value, follow_symlinks=False)
    except OSError as error:
        if error.errno in (errno.EINVAL, errno.ERANGE, errno.E2BIG):
            return None
        assert error.errno in (errno.ENOTSUP, errno.EPERM, errno.EACCES), error
    if kind != stat.S_IFLNK:
        os.chmod(path, mode)
    return {os.fsencode(key): os.getxattr(path, key, follow_symlinks=False) for key in os.listxattr(path, follow_symlinks=False)}


def _ours(kind: int, name: bytes, value: bytes, mode: int) -> dict[bytes, bytes] | None:
    try:
        found = accepted({name: value}, kind)
    except Refused:
        return None
    if (acl := found.pop(ACCESS_ACL, None)) is not None and (acl := under_mode(acl, mode)) is not None:
        found[ACCESS_ACL] = acl
    return found


@_settings
@given(_acls(), st.sampled_from(_ACLS), st.sampled_from([stat.S_IFREG, stat.S_IFDIR, stat.S_IFIFO]), st.integers(0, 0o777))
def test_an_access_control_list_becomes_what_the_kernel_makes_of_it(
    files: dict[int, str], value: bytes, name: bytes, kind: int, mode: int
) -> None:
    assert _ours(kind, name, value, mode) == _kernels(kind, files[kind], name, value, mode)


@_settings
@given(
    st.sampled_from([0x00000000, 0x01000000, 0x02000000, 0x03000000, 0x04000000]),
    st.sampled_from([0, 1]),
    st.binary(max_size=26) | st.sampled_from([bytes(16), bytes(20), bytes(16) + b"\xe8\3\0\0", bytes(16) + b"\xff" * 4]),
    st.sampled_from([stat.S_IFREG, stat.S_IFDIR]),
)
def test_capabilities_are_those_that_the_kernel_takes(files: dict[int, str], revision: int, effective: int, rest: bytes, kind: int) -> None:
    value = struct.pack("<I", revision | effective) + rest
    ours, kernels = _ours(kind, CAPABILITY, value, 0o755), _kernels(kind, files[kind], CAPABILITY, value, 0o755)
    assert (ours is None) == (kernels is None)


@pytest.mark.parametrize("kind", [stat.S_IFREG, stat.S_IFDIR, stat.S_IFIFO, stat.S_IFLNK])
@pytest.mark.parametrize("name", [b"user.a", b"user.", b"user." + b"n" * 250, b"user." + b"n" * 251, b"nonsense.a", b"nonsense", b""])
def test_names_are_those_that_a_file_of_the_kind_can_have(files: dict[int, str], kind: int, name: bytes) -> None:
    ours, kernels = _ours(kind, name, b"x", 0o644), _kernels(kind, files[kind], name, b"x", 0o644)
    if kind in (stat.S_IFREG, stat.S_IFDIR):
        assert ours == kernels
    else:
        assert not ours
        assert not kernels
