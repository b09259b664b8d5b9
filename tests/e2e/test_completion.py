"""What the shells get: bash completes with the script, and man reads the pages."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

TEUL = str(Path(sys.executable).with_name("teul"))

# Asks the completion as bash does: the words of the line, and the one that the cursor is in.
_ASK = """
source /dev/stdin
teul() { printf "%s\\n" "listed:$1" web; }
COMP_WORDS=("$@"); COMP_CWORD=$(($# - 1))
_teul
printf "%s\\n" "${COMPREPLY[@]}"
"""


def run(*arguments: str, stdin: str = "") -> str:
    environment = {"PATH": os.environ["PATH"], "HOME": "/nowhere"}
    return subprocess.run(arguments, input=stdin, env=environment, capture_output=True, text=True, timeout=60, check=True).stdout


@pytest.fixture(scope="module")
def script() -> str:
    return run(TEUL, "completion", "bash")


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        (["teul", "ru"], {"run"}),
        (["teul", "container", "l"], {"logs", "ls"}),
        (["teul", "run", "--rest"], {"--restart"}),
        (["teul", "volume", "create", "--dr"], {"--driver"}),
        (["teul", "stop", "we"], {"web"}),
        (["teul", "volume", "rm", "list"], {"listed:volume"}),
    ],
)
def test_bash_completes(script: str, line: list[str], expected: set[str]) -> None:
    assert set(run("bash", "-c", _ASK, "bash", *line, stdin=script).split()) == expected


def test_every_shell_gets_a_script_and_others_a_sentence() -> None:
    assert run(TEUL, "completion", "zsh").startswith("#compdef teul\n")
    assert "complete -c teul -n '__fish_use_subcommand' -f -a run -d 'Create and run a new container from an image'" in run(
        TEUL, "completion", "fish"
    )
    refused = subprocess.run([TEUL, "completion", "tcsh"], capture_output=True, text=True, timeout=60, check=False)
    assert (refused.returncode, refused.stderr) == (1, "unknown shell 'tcsh': bash, zsh, fish are known\n")


def test_man_pages_say_what_the_help_says(tmp_path: Path) -> None:
    run(TEUL, "system", "man", str(tmp_path))
    page = (tmp_path / "man1" / "teul-container-ls.1").read_text()
    assert page.startswith('.TH TEUL-CONTAINER-LS 1 "" Teul\n.SH NAME\nteul-container-ls \\- List containers\n')
    assert "\\-\\-no\\-trunc" in page
