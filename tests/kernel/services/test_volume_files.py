"""The files of volumes, and what others mount among them."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from support.needs import needs
from teul.model.volume import Volume
from teul.services.volumes.local import VolumeFiles

pytestmark = needs("root")


def test_what_others_have_mounted_in_a_volume_is_not_removed_with_it(tmp_path: Path) -> None:
    """Neither when its user asks for that, nor when an engine finds it without a record."""
    (tmp_path / "tmp").mkdir()
    (tmp_path / "volumes").mkdir()
    files = VolumeFiles(str(tmp_path / "volumes"), str(tmp_path / "tmp"))
    files.make("mine")
    inside = Path(files.data("mine"), "a b")
    inside.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "tmpfs", inside], check=True)
    try:
        (inside / "work").write_text("of months")
        assert files.mounted_inside("mine") == [str(inside)]
        with pytest.raises(OSError, match="busy"):
            files.remove("mine")
        files.sweep({})
        files.sweep({"mine": Volume(name="mine", created_at_ns=0)})
        assert (inside / "work").read_text() == "of months"
    finally:
        subprocess.run(["umount", inside], check=True)
    assert files.mounted_inside("mine") == []
    files.remove("mine")
    assert list((tmp_path / "volumes").iterdir()) == []
