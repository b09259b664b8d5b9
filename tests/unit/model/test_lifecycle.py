"""The table of a container's life is the only way through it."""

from __future__ import annotations

from collections.abc import Callable

import msgspec
import pytest

from teul.errors import Conflict
from teul.model import lifecycle
from teul.model.lifecycle import TRANSITIONS, ContainerState, IllegalMove, Move, Status

_FUNCTIONS: dict[Move, Callable[[ContainerState], ContainerState]] = {
    Move.STARTED: lambda state: lifecycle.started(state, pid=7, now_ns=1),
    Move.START_FAILED: lambda state: lifecycle.start_failed(state, exit_code=127, error="not found"),
    Move.START_PUT_OFF: lambda state: lifecycle.start_put_off(state, exit_code=128, error="no address"),
    Move.PAUSED: lifecycle.paused,
    Move.UNPAUSED: lifecycle.unpaused,
    Move.EXITED: lambda state: lifecycle.exited(state, exit_code=3, oom_killed=False, now_ns=2),
    Move.RESTARTING: lambda state: lifecycle.restarting(state, exit_code=3, oom_killed=False, now_ns=2),
    Move.RESTART_CANCELLED: lifecycle.restart_cancelled,
    Move.REMOVING: lifecycle.removing,
    Move.REMOVE_FAILED: lambda state: lifecycle.remove_failed(state, error="busy"),
}


def test_every_move_has_a_function() -> None:
    assert set(_FUNCTIONS) == set(Move)


@pytest.mark.parametrize("status", Status)
@pytest.mark.parametrize("move", Move)
def test_the_functions_follow_the_table(status: Status, move: Move) -> None:
    state = ContainerState(status=status)
    if (status, move) in TRANSITIONS:
        assert _FUNCTIONS[move](state).status is TRANSITIONS[status, move]
    else:
        with pytest.raises(IllegalMove):
            _FUNCTIONS[move](state)


def test_every_status_can_be_reached_and_left() -> None:
    reached, todo = {Status.CREATED}, [Status.CREATED]
    while todo:
        status = todo.pop()
        following = {after for (before, _), after in TRANSITIONS.items() if before is status}
        assert following, f"{status} is a dead end"
        todo.extend(following - reached)
        reached |= following
    assert reached == set(Status)


def test_a_running_container_cannot_be_removed() -> None:
    with pytest.raises(Conflict, match="container is running: it cannot be marked as removing"):
        lifecycle.removing(ContainerState(status=Status.RUNNING))


def test_a_life() -> None:
    state = lifecycle.started(ContainerState(), pid=7, now_ns=10)
    assert (state.pid, state.started_at_ns, state.has_process, state.counts_as_running) == (7, 10, True, True)
    assert lifecycle.paused(state).pid == 7
    ended = lifecycle.restarting(state, exit_code=137, oom_killed=True, now_ns=20)
    assert (ended.pid, ended.exit_code, ended.oom_killed, ended.finished_at_ns) == (0, 137, True, 20)
    assert (ended.has_process, ended.counts_as_running) == (False, True)
    again = lifecycle.started(ended, pid=8, now_ns=30)
    assert (again.exit_code, again.oom_killed, again.started_at_ns, again.finished_at_ns) == (0, False, 30, 20)
    stopped = lifecycle.restart_cancelled(ended)
    assert (stopped.status, stopped.exit_code, stopped.counts_as_running) == (Status.EXITED, 137, False)


@pytest.mark.parametrize(("status", "after"), [(Status.CREATED, Status.CREATED), (Status.EXITED, Status.EXITED)])
def test_a_failed_start_changes_no_status_but_says_why(status: Status, after: Status) -> None:
    state = lifecycle.start_failed(ContainerState(status=status), exit_code=126, error="permission denied")
    assert (state.status, state.exit_code, state.error) == (after, 126, "permission denied")


def test_a_failed_removal_can_be_tried_again() -> None:
    state = lifecycle.remove_failed(lifecycle.removing(ContainerState()), error="busy")
    assert (state.status, state.error) == (Status.DEAD, "busy")
    assert lifecycle.removing(state).status is Status.REMOVING


def test_a_state_is_a_value() -> None:
    state = ContainerState()
    with pytest.raises(AttributeError):
        state.status = Status.RUNNING  # type: ignore[misc]
    assert msgspec.json.decode(msgspec.json.encode(state), type=ContainerState) == state
