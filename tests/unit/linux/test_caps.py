"""Capability names and masks."""

from __future__ import annotations

import errno
import os
import threading

import pytest

from teul.linux import caps


def test_every_capability_stands_at_the_kernels_number() -> None:
    """Spot checks against linux/capability.h, first, last, and one of each half."""
    assert len(caps.CAPABILITIES) == 41
    numbers = {"CAP_CHOWN": 0, "CAP_SYS_ADMIN": 21, "CAP_SETFCAP": 31, "CAP_MAC_OVERRIDE": 32, "CAP_CHECKPOINT_RESTORE": 40}
    assert {name: caps.NUMBERS[name] for name in numbers} == numbers


def test_a_mask_and_its_names_are_inverse() -> None:
    assert caps.mask(["CAP_SYS_ADMIN", "CAP_CHOWN"]) == 1 << 21 | 1
    assert caps.names(1 << 40 | 1) == ["CAP_CHOWN", "CAP_CHECKPOINT_RESTORE"]
    assert caps.names(caps.mask(caps.CAPABILITIES)) == list(caps.CAPABILITIES)


def test_an_unknown_name_is_refused_by_name() -> None:
    with pytest.raises(OSError, match="unknown capability `CAP_FLY`") as caught:
        caps.mask(["CAP_FLY"])
    assert caught.value.errno == errno.EINVAL


def test_bits_of_newer_capabilities_have_no_name() -> None:
    assert caps.names(1 << 63) == []


def test_the_last_capability_is_known_here_and_to_the_bounding_set() -> None:
    with open("/proc/sys/kernel/cap_last_cap", encoding="ascii") as file:
        assert caps.last_capability() == int(file.read())


def test_capget_and_proc_agree() -> None:
    """capget(2) answers for the thread that asks, and so does /proc/thread-self."""
    masks = caps.process_masks(f"self/task/{threading.get_native_id()}")
    assert caps.get_capabilities() == (masks["effective"], masks["permitted"], masks["inheritable"])
    assert masks["ambient"] & ~masks["permitted"] == 0


def test_the_masks_of_a_process_that_is_gone_are_an_error() -> None:
    with pytest.raises(FileNotFoundError):
        caps.process_masks(0x7FFFFFFF)
    assert caps.process_masks(os.getpid())["effective"] == caps.get_capabilities()[0]
