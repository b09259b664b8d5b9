"""The directory of unpacked layers."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from teul.oci.digest import Digest
from teul.snapshots.layers import Layers

CHAIN = Digest.of(b"chain")


@pytest.fixture
def layers(tmp_path: Path) -> Layers:
    (tmp_path / "tmp").mkdir()
    layers = Layers(str(tmp_path / "snapshots"), str(tmp_path / "tmp"))
    layers.open()
    return layers


def prepared(tmp_path: Path, content: str) -> str:
    (tmp_path / "tmp/new/fs").mkdir(parents=True)
    (tmp_path / "tmp/new/fs/file").write_text(content)
    return str(tmp_path / "tmp/new")


def test_nobody_else_looks_into_layers(layers: Layers, tmp_path: Path) -> None:
    """They have set-id programs and device nodes; a name for one of those would be enough to use it."""
    assert (tmp_path / "snapshots").stat().st_mode & 0o777 == 0o700


def test_a_layer_is_placed_once(layers: Layers, tmp_path: Path) -> None:
    layers.place(prepared(tmp_path, "first"), CHAIN)
    layers.place(prepared(tmp_path, "second"), CHAIN)
    assert Path(layers.directory(CHAIN), "file").read_text() == "first"
    assert os.listdir(tmp_path / "tmp") == []
    assert layers.has(CHAIN)


def test_a_layer_that_cannot_be_placed_is_an_error(layers: Layers, tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        layers.place(str(tmp_path / "tmp/missing"), CHAIN)


def test_a_layer_is_removed_with_everything(layers: Layers, tmp_path: Path) -> None:
    layers.place(prepared(tmp_path, "x"), CHAIN)
    (tmp_path / "tmp" / f"removed-{CHAIN.hex}").mkdir()
    layers.remove(CHAIN)
    layers.remove(CHAIN)
    assert not layers.has(CHAIN)
    assert os.listdir(tmp_path / "tmp") == []


def test_the_sweep_leaves_known_layers_only(layers: Layers, tmp_path: Path) -> None:
    layers.place(prepared(tmp_path, "x"), CHAIN)
    (tmp_path / "snapshots" / ("0" * 64) / "fs").mkdir(parents=True)
    (tmp_path / "snapshots/nonsense").write_text("x")
    assert layers.sweep({CHAIN}) == 2
    assert os.listdir(tmp_path / "snapshots") == [CHAIN.hex]
