"""The documents speak of what is there."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

PROJECT = Path(__file__).resolve().parents[2]
DOCUMENTS = sorted([*PROJECT.glob("*.md"), *PROJECT.glob("docs/*.md"), *PROJECT.glob("tests/**/README.md")])
LINK = re.compile(r"\]\(([^)#:]+)\)")
CODE_PATH = re.compile(r"`((?:[a-z_]+/)+[a-z_]+\.py)`")


def named(paths: list[Path]) -> list[str]:
    return [str(path.relative_to(PROJECT)) for path in paths]


@pytest.mark.parametrize("document", DOCUMENTS, ids=named(DOCUMENTS))
def test_links_lead_somewhere(document: Path) -> None:
    broken = [target for target in LINK.findall(document.read_text(encoding="utf-8")) if not (document.parent / target).exists()]
    assert not broken, f"{document.name} links to what is not there: {broken}"


@pytest.mark.parametrize("document", DOCUMENTS, ids=named(DOCUMENTS))
def test_modules_that_are_named_exist(document: Path) -> None:
    places = (PROJECT, PROJECT / "src" / "teul")
    names = CODE_PATH.findall(document.read_text(encoding="utf-8"))
    missing = [name for name in names if not any((place / name).exists() for place in places)]
    assert not missing, f"{document.name} names modules that are not there: {missing}"


def test_the_tour_visits_every_folder() -> None:
    text = (PROJECT / "ARCHITECTURE.md").read_text(encoding="utf-8")
    folders = sorted(path.parent.name for path in (PROJECT / "src" / "teul").glob("*/__init__.py"))
    assert folders
    missing = [name for name in folders if f"`{name}/`" not in text]
    assert not missing, f"ARCHITECTURE.md does not speak of {missing}"


def test_every_table_of_the_database_is_documented() -> None:
    schema = (PROJECT / "src" / "teul" / "store" / "metadata" / "migrations.py").read_text(encoding="utf-8")
    text = (PROJECT / "docs" / "formats.md").read_text(encoding="utf-8")
    tables = re.findall(r"CREATE TABLE (\w+)", schema)
    assert tables
    missing = [table for table in tables if f"| `{table}` |" not in text]
    assert not missing, f"docs/formats.md does not speak of {missing}"


def test_both_readmes_show_the_same_commands() -> None:
    """Each language's README has the same examples, in the same order; comments are translated."""

    def commands(name: str) -> list[str]:
        lines = (PROJECT / name).read_text(encoding="utf-8").splitlines()
        return [line.partition("  #")[0].strip() for line in lines if line.startswith("    ")]

    assert commands("README.md") == commands("README.ko.md")
