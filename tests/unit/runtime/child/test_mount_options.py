"""Words of mount(8) to attributes."""

from __future__ import annotations

import pytest

from teul.linux import mounts
from teul.runtime.child.mount_options import MountOptions


@pytest.mark.parametrize(
    ("words", "add", "clear"),
    [
        (["ro", "nosuid"], mounts.MOUNT_ATTR_RDONLY | mounts.MOUNT_ATTR_NOSUID, 0),
        (["ro", "rw"], 0, mounts.MOUNT_ATTR_RDONLY),
        (
            ["noatime", "strictatime"],
            mounts.MOUNT_ATTR_STRICTATIME,
            mounts.MOUNT_ATTR__ATIME & ~mounts.MOUNT_ATTR_STRICTATIME | mounts.MOUNT_ATTR_STRICTATIME,
        ),
        (["defaults"], 0, 0),
    ],
)
def test_later_words_win(words: list[str], add: int, clear: int) -> None:
    """mount(8): of contradicting options the last one counts."""
    options = MountOptions(words)
    assert (options.add, options.clear) == (add, clear)


def test_what_is_no_flag_is_the_file_systems_own() -> None:
    """Data options keep their value, commas and all: each is passed by itself."""
    options = MountOptions(["size=64m", "newinstance", "context=a,b"])
    assert options.data == [("size", "64m"), ("newinstance", None), ("context", "a,b")]


@pytest.mark.parametrize(("word", "propagation", "recursive"), [("rslave", mounts.MS_SLAVE, True), ("shared", mounts.MS_SHARED, False)])
def test_propagation_words(word: str, propagation: int, recursive: bool) -> None:
    """With and without r."""
    options = MountOptions(["rbind", word])
    assert (options.bind, options.recursive, options.propagation, options.recursive_propagation) == (True, True, propagation, recursive)
