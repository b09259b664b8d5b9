"""Capability sets on the running kernel, each test in a child of its own."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable

from support.needs import needs
from teul.linux import caps, process

pytestmark = needs("root")

DOCKER = [
    "CAP_CHOWN",
    "CAP_DAC_OVERRIDE",
    "CAP_FSETID",
    "CAP_FOWNER",
    "CAP_MKNOD",
    "CAP_NET_RAW",
    "CAP_SETGID",
    "CAP_SETUID",
    "CAP_SETFCAP",
    "CAP_SETPCAP",
    "CAP_NET_BIND_SERVICE",
    "CAP_SYS_CHROOT",
    "CAP_KILL",
    "CAP_AUDIT_WRITE",
]


def in_child(function: Callable[[], None]) -> None:
    """Run `function` in a child; its exception fails the test with its text."""
    read_fd, write_fd = os.pipe()
    pid = os.fork()
    if pid == 0:
        try:
            function()
        except BaseException as error:  # noqa: BLE001 - boundary: the child may not unwind into the test session
            os.write(write_fd, repr(error).encode())
        finally:
            os._exit(0)
    os.close(write_fd)
    text = b""
    while part := os.read(read_fd, 65536):
        text += part
    os.close(read_fd)
    os.waitpid(pid, 0)
    assert text.decode() == ""


def test_all_five_sets_become_what_was_asked() -> None:
    def check() -> None:
        caps.set_capabilities(
            effective=["CAP_CHOWN"],
            permitted=["CAP_CHOWN", "CAP_KILL"],
            inheritable=["CAP_KILL"],
            bounding=DOCKER,
            ambient=["CAP_KILL"],
        )
        masks = caps.process_masks()
        assert {name: caps.names(mask) for name, mask in masks.items()} == {
            "effective": ["CAP_CHOWN"],
            "permitted": ["CAP_CHOWN", "CAP_KILL"],
            "inheritable": ["CAP_KILL"],
            "bounding": sorted(DOCKER, key=caps.NUMBERS.__getitem__),
            "ambient": ["CAP_KILL"],
        }

    in_child(check)


def test_capabilities_survive_the_change_of_user_as_a_container_makes_it() -> None:
    """bounding first, keepcaps over setuid, the rest afterwards: an ordinary user keeps what was asked."""

    def check() -> None:
        caps.drop_bounding(DOCKER)
        process.prctl(process.PR_SET_KEEPCAPS, 1)
        os.setresuid(1000, 1000, 1000)
        caps.set_capabilities(effective=["CAP_NET_RAW"], permitted=["CAP_NET_RAW"], inheritable=[])
        masks = caps.process_masks()
        assert (masks["effective"], masks["permitted"]) == (caps.mask(["CAP_NET_RAW"]),) * 2
        assert masks["bounding"] == caps.mask(DOCKER)
        assert os.getuid() == 1000

    in_child(check)


def test_no_capabilities_at_all() -> None:
    def check() -> None:
        caps.set_capabilities(effective=[], permitted=[], inheritable=[], bounding=[])
        assert set(caps.process_masks().values()) == {0}
        assert caps.get_capabilities() == (0, 0, 0)

    in_child(check)


def test_what_was_given_up_cannot_be_had_again() -> None:
    def check() -> None:
        caps.set_capabilities(effective=[], permitted=["CAP_SETPCAP"], inheritable=[])
        try:
            caps.set_capabilities(effective=[], permitted=["CAP_CHOWN"], inheritable=[])
        except OSError as error:
            assert error.errno == errno.EPERM
            assert "capset" in str(error)
        else:
            raise AssertionError("capset(2) gave back what was dropped")

    in_child(check)


def test_dropping_needs_setpcap_and_names_what_it_could_not_drop() -> None:
    def check() -> None:
        caps.set_capabilities(effective=[], permitted=[], inheritable=[])
        try:
            caps.drop_bounding([])
        except OSError as error:
            assert error.errno == errno.EPERM
            assert "CAP_CHOWN" in str(error)
        else:
            raise AssertionError("the bounding set shrank without CAP_SETPCAP")

    in_child(check)


def test_ambient_is_replaced_not_added_to() -> None:
    def check() -> None:
        both = ["CAP_CHOWN", "CAP_KILL"]
        caps.set_capabilities(effective=both, permitted=both, inheritable=both, ambient=both)
        caps.set_capabilities(effective=both, permitted=both, inheritable=both, ambient=["CAP_KILL"])
        assert caps.names(caps.process_masks()["ambient"]) == ["CAP_KILL"]

    in_child(check)
