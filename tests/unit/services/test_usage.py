"""Who uses what, as those who use it say."""

from __future__ import annotations

from support.container_records import container_record
from teul.model.lifecycle import exited, started
from teul.services.usage import Usage


def test_a_thing_has_the_users_that_declared_it() -> None:
    usage: Usage[str] = Usage()
    first, second, other = (container_record(name * 64) for name in "abc")
    usage.declare(first, ["x"])
    usage.declare(second, ["x", "y"])
    usage.declare(other, [])
    assert (usage.count("x"), usage.count("y"), usage.count("z")) == (2, 1, 0)
    assert (usage.users("y"), usage.users("z")) == ([second], [])
    assert [usage.is_used(thing) for thing in "xyz"] == [True, True, False]


def test_users_are_told_newest_first() -> None:
    """Whatever order they were declared in: a user reads of the newest container that forbids what he wants."""
    usage: Usage[str] = Usage()
    for name, created_at_ns in (("b", 2), ("c", 3), ("a", 1)):
        usage.declare(container_record(name * 64, created_at_ns=created_at_ns), ["x"])
    assert [container.created_at_ns for container in usage.users("x")] == [3, 2, 1]


def test_the_state_of_a_user_is_never_out_of_date() -> None:
    usage: Usage[str] = Usage()
    container = container_record()
    usage.declare(container, ["x"])
    container.state = started(container.state, pid=1, now_ns=1)
    assert [user.state.counts_as_running for user in usage.users("x")] == [True]
    container.state = exited(container.state, exit_code=0, oom_killed=False, now_ns=2)
    assert [user.state.counts_as_running for user in usage.users("x")] == [False]


def test_a_new_declaration_takes_the_place_of_the_old_one() -> None:
    usage: Usage[str] = Usage()
    container = container_record()
    usage.declare(container, ["x", "y"])
    usage.declare(container, iter(["y", "z"]))
    assert [usage.count(thing) for thing in "xyz"] == [0, 1, 1]


def test_who_withdraws_uses_nothing() -> None:
    usage: Usage[str] = Usage()
    container, other = container_record(), container_record("d" * 64)
    usage.declare(container, ["x", "y"])
    usage.declare(other, ["x"])
    usage.withdraw(container)
    assert (usage.users("x"), usage.users("y")) == ([other], [])
    usage.withdraw(container)
    usage.withdraw(other)
    assert not usage.is_used("x")


def test_what_nobody_uses_takes_no_memory() -> None:
    """Images come and go for as long as an engine lives."""
    usage: Usage[int] = Usage()
    container = container_record()
    for thing in range(100):
        usage.declare(container, [thing])
    usage.withdraw(container)
    assert usage.__dict__ == Usage().__dict__
