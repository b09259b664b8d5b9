"""The generations of a name."""

from __future__ import annotations

import pytest

from support.container_records import SOME_IMAGE, container_record
from teul.errors import Conflict, NotFound
from teul.model.config import ContainerConfig
from teul.model.container import Container
from teul.model.host_config import HostConfig
from teul.model.renewal import MOST_GENERATIONS, Settings
from teul.services.containers.generations import failed, find_generation, generations_of, kept_generations, succeeded


def settings() -> Settings:
    return Settings(config=ContainerConfig(), host_config=HostConfig(), attachments={}, mounts=[])


def renewed(times: int, *, keep: int = 1) -> Container:
    """The container that has the name after so many renewals."""
    current = container_record("0" * 64)
    for number in range(1, times + 1):
        successor = container_record(f"{number:064x}")
        successor.generations = succeeded(current, successor, settings(), changes=[f"change {number}"], keep=keep, now_ns=number)
        current = successor
    return current


def test_before_the_first_renewal_there_is_one() -> None:
    [only] = generations_of(container_record(created_at_ns=7))
    assert (only.number, only.image_id, only.began_at_ns, only.result) == (1, str(SOME_IMAGE), 7, "")


def test_each_renewal_adds_one_and_ends_the_one_before() -> None:
    found = renewed(2)
    assert [(each.number, each.result, each.changes) for each in found.generations] == [
        (1, "replaced", ()),
        (2, "replaced", ("change 1",)),
        (3, "", ("change 2",)),
    ]


@pytest.mark.parametrize(("keep", "kept"), [(0, []), (1, [4]), (2, [3, 4]), (9, [1, 2, 3, 4])])
def test_the_latest_can_be_gone_back_to_and_hold_their_images(keep: int, kept: list[int]) -> None:
    found = renewed(4, keep=keep)
    assert [each.number for each in found.generations if each.settings is not None] == kept
    assert len(found.image_ids) == 1 + len(kept)


def test_failed_attempts_are_told_and_push_nothing_out() -> None:
    found = renewed(2)
    for _ in range(MOST_GENERATIONS + 5):
        found.generations = failed(found, container_record("f" * 64), reason="no good", changes=[], now_ns=1)
    assert len(found.generations) == MOST_GENERATIONS
    assert found.generations[-1].result == "failed: no good"
    assert [each.number for each in found.generations if each.settings is not None or not each.result] == [2, 3]


def test_a_reason_that_is_long_is_cut() -> None:
    [_, attempt] = failed(container_record(), container_record("f" * 64), reason="x" * 9999, changes=[], now_ns=1)
    assert len(attempt.result) < 400


def test_the_one_to_go_back_to() -> None:
    found = renewed(3, keep=2)
    assert find_generation(found, None).number == 3
    assert find_generation(found, 2).number == 2
    with pytest.raises(Conflict, match=r"generation 1 of .* is not kept any more: replaced"):
        find_generation(found, 1)
    for missing in (4, 9):
        with pytest.raises(NotFound, match=f"has no generation {missing} to go back to"):
            find_generation(found, missing)
    with pytest.raises(NotFound, match="has no generation to go back to"):
        find_generation(container_record(), None)


@pytest.mark.parametrize(("label", "kept"), [(None, 1), ("3", 3), ("0", 0), ("many", 1), ("-1", 1), ("", 1)])
def test_the_label_says_how_many_are_kept(label: str | None, kept: int) -> None:
    found = container_record()
    if label is not None:
        found.config.labels = {"io.teul.keep-generations": label}
    assert kept_generations(found, 1) == kept
