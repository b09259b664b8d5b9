"""Whether indexes are mounted on a kernel at all; `tests/kernel/workers` mounts them."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from teul.snapshots import erofs


def _of_release(monkeypatch: pytest.MonkeyPatch, release: str) -> None:
    host = os.uname()
    monkeypatch.setattr(os, "uname", lambda: os.uname_result((host.sysname, host.nodename, release, host.version, host.machine)))


def _no_mount(*_: str) -> int:
    raise OSError("tried")


@pytest.mark.parametrize("release", ["6.12.0", "6.12.1", "6.12.1-arch1-1", "6.12.0-55.9.1.el10_0.x86_64", "6.12-custom", "6.12"])
def test_a_kernel_that_panics_is_not_tried(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, release: str) -> None:
    _of_release(monkeypatch, release)
    monkeypatch.setattr(erofs, "mount_layer", pytest.fail)
    assert "CVE-2024-56750" in erofs.refusal(str(tmp_path))
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize("release", ["6.12.2", "6.12.10", "6.12.48+deb13-amd64", "6.13.0", "6.1.0-18-amd64", "6.18.1", "6.120.0"])
def test_every_other_kernel_is_tried(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, release: str) -> None:
    _of_release(monkeypatch, release)
    monkeypatch.setattr(erofs, "mount_layer", _no_mount)
    assert erofs.refusal(str(tmp_path)) == "tried"
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize("value", [None, b"other"])
def test_a_kernel_without_attributes_on_these_mounts_will_not_do(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, value: bytes | None
) -> None:
    """Layers would mount, and their opaque directories show what lower layers have."""

    def getxattr(path: str, name: bytes) -> bytes:
        if value is None:
            raise OSError(95, "Operation not supported", path)
        return value

    monkeypatch.setattr(erofs, "mount_layer", lambda index, archive: os.open(index, os.O_RDONLY))
    monkeypatch.setattr(os, "getxattr", getxattr)
    reason = erofs.refusal(str(tmp_path))
    assert ("Operation not supported" if value is None else "trusted.overlay.opaque") in reason
