"""What the kernel says of mounts."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from teul.linux import mounts
from teul.linux.mountinfo import mount_of


@pytest.mark.parametrize("name", ["plain", "white space\tand\\more", "Umläute"])
def test_a_mount_is_found_by_what_is_on_it(tmp_path: Path, name: str) -> None:
    place = tmp_path / name
    place.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "tmpfs", str(place)], check=True)
    try:
        (place / "below").mkdir()
        for change, words in (("--make-private", []), ("--make-shared", ["shared"])):
            subprocess.run(["mount", change, str(place)], check=True)
            fd = os.open(place / "below", os.O_PATH | os.O_CLOEXEC)
            found, fields = mount_of(fd)
            os.close(fd)
            assert (found, [field.partition(":")[0] for field in fields]) == (str(place), words)
    finally:
        subprocess.run(["umount", str(place)], check=True)


def test_a_mount_in_no_namespace_is_not_found(tmp_path: Path) -> None:
    mount_fd = mounts.clone_tree(str(tmp_path))
    with pytest.raises(FileNotFoundError):
        mount_of(mount_fd)
    os.close(mount_fd)
