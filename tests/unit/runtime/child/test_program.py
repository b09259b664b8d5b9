"""Finding the program; the texts are what clients turn into exit codes 126 and 127."""

from __future__ import annotations

from pathlib import Path

import pytest

from teul.runtime.child.program import ProgramError, find


@pytest.fixture
def bin_directory(tmp_path: Path) -> Path:
    (tmp_path / "tool").write_text("#!/bin/sh\n")
    (tmp_path / "tool").chmod(0o755)
    (tmp_path / "data").write_text("no program")
    (tmp_path / "folder").mkdir()
    return tmp_path


def test_a_bare_name_is_looked_up_in_path(bin_directory: Path) -> None:
    """The first executable file wins; directories and plain files are passed over."""
    assert find("tool", {"PATH": f"/nowhere:{bin_directory}"}) == f"{bin_directory}/tool"


@pytest.mark.parametrize("name", ["data", "folder", "missing", ""])
def test_a_bare_name_that_is_not_executable_is_not_found(bin_directory: Path, name: str) -> None:
    """Go's LookPath says the same for all of them."""
    with pytest.raises(ProgramError, match=r"executable file not found in \$PATH"):
        find(name, {"PATH": str(bin_directory)})


@pytest.mark.parametrize(
    ("name", "text"), [("missing", "no such file or directory"), ("data", "permission denied"), ("folder", "is a directory")]
)
def test_a_path_says_what_is_wrong_with_it(bin_directory: Path, name: str, text: str) -> None:
    """With a slash there is no search."""
    with pytest.raises(ProgramError, match=text):
        find(f"{bin_directory}/{name}", {})
