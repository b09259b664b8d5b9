"""The life of a container: one enum, one table, and the functions that move along it.

Two rules. A state changes nowhere but through the functions here, and a move that is not in `TRANSITIONS` is refused. Docker's
overlapping flags (Running, Paused, Restarting, Dead) are computed from `Status` where they are shown.

    created ──started──▶ running ◀─unpaused/paused─▶ paused
       ▲ start failed      │  exited ▶ exited ──started──▶ running
       └── stays put       └─ restarting ▶ restarting ──started──▶ running
                                             ▲ start put off: it failed, and its restart policy wants another
    created, exited, dead ──removing──▶ removing ──remove failed──▶ dead
"""

from __future__ import annotations

from enum import StrEnum

import msgspec

from teul.errors import Conflict


class Status(StrEnum):
    """Docker's names for where a container is in its life."""

    CREATED = "created"
    RUNNING = "running"
    PAUSED = "paused"
    RESTARTING = "restarting"
    REMOVING = "removing"
    EXITED = "exited"
    DEAD = "dead"


class Move(StrEnum):
    """What can happen to a container."""

    STARTED = "started"
    START_FAILED = "start failed"
    START_PUT_OFF = "start put off"
    PAUSED = "paused"
    UNPAUSED = "unpaused"
    EXITED = "exited"
    RESTARTING = "restarting"
    RESTART_CANCELLED = "restart cancelled"
    REMOVING = "removing"
    REMOVE_FAILED = "remove failed"


TRANSITIONS: dict[tuple[Status, Move], Status] = {
    (Status.CREATED, Move.STARTED): Status.RUNNING,
    (Status.EXITED, Move.STARTED): Status.RUNNING,
    (Status.RESTARTING, Move.STARTED): Status.RUNNING,
    # docker: a container whose first process could not be started stays "created" (with an exit code), or "exited" as it was.
    (Status.CREATED, Move.START_FAILED): Status.CREATED,
    (Status.EXITED, Move.START_FAILED): Status.EXITED,
    (Status.RESTARTING, Move.START_FAILED): Status.EXITED,
    # A start that the restart policy wanted has failed: it is tried again, however the container was before.
    (Status.EXITED, Move.START_PUT_OFF): Status.RESTARTING,
    (Status.RESTARTING, Move.START_PUT_OFF): Status.RESTARTING,
    (Status.RUNNING, Move.PAUSED): Status.PAUSED,
    (Status.PAUSED, Move.UNPAUSED): Status.RUNNING,
    (Status.RUNNING, Move.EXITED): Status.EXITED,
    (Status.PAUSED, Move.EXITED): Status.EXITED,
    (Status.RUNNING, Move.RESTARTING): Status.RESTARTING,
    (Status.PAUSED, Move.RESTARTING): Status.RESTARTING,
    (Status.RESTARTING, Move.RESTART_CANCELLED): Status.EXITED,
    (Status.CREATED, Move.REMOVING): Status.REMOVING,
    (Status.EXITED, Move.REMOVING): Status.REMOVING,
    (Status.DEAD, Move.REMOVING): Status.REMOVING,
    # An engine that died while removing finds the record in this status and removes again.
    (Status.REMOVING, Move.REMOVING): Status.REMOVING,
    (Status.REMOVING, Move.REMOVE_FAILED): Status.DEAD,
}


class IllegalMove(Conflict):
    """The container's present status does not allow the move."""

    def __init__(self, status: Status, move: Move) -> None:
        super().__init__(f"container is {status}: it cannot be marked as {move}")
        self.status = status
        self.move = move


class ContainerState(msgspec.Struct, frozen=True, kw_only=True):
    """Where a container is, and what is known of its last run. Times are nanoseconds since the epoch, 0 for never."""

    status: Status = Status.CREATED
    pid: int = 0
    exit_code: int = 0
    error: str = ""
    oom_killed: bool = False
    started_at_ns: int = 0
    finished_at_ns: int = 0

    @property
    def has_process(self) -> bool:
        """Is there a PID 1 (running or frozen)?"""
        return self.status in (Status.RUNNING, Status.PAUSED)

    @property
    def counts_as_running(self) -> bool:
        """Docker's Running flag: a container that waits for its next restart counts too."""
        return self.status in (Status.RUNNING, Status.PAUSED, Status.RESTARTING)


def next_status(status: Status, move: Move) -> Status:
    """Look the move up in the table. Raises IllegalMove."""
    try:
        return TRANSITIONS[status, move]
    except KeyError:
        raise IllegalMove(status, move) from None


def started(state: ContainerState, *, pid: int, now_ns: int) -> ContainerState:
    """PID 1 runs. The last run's end stays on record (Docker shows it); its exit code and error do not."""
    return msgspec.structs.replace(
        state, status=next_status(state.status, Move.STARTED), pid=pid, exit_code=0, error="", oom_killed=False, started_at_ns=now_ns
    )


def start_failed(state: ContainerState, *, exit_code: int, error: str) -> ContainerState:
    """PID 1 could not be started: 127 not found, 126 not executable, 128 anything else."""
    status = next_status(state.status, Move.START_FAILED)
    return msgspec.structs.replace(state, status=status, pid=0, exit_code=exit_code, error=error, oom_killed=False)


def start_put_off(state: ContainerState, *, exit_code: int, error: str) -> ContainerState:
    """As `start_failed`, but the restart policy will try again after a while."""
    status = next_status(state.status, Move.START_PUT_OFF)
    return msgspec.structs.replace(state, status=status, pid=0, exit_code=exit_code, error=error, oom_killed=False)


def paused(state: ContainerState) -> ContainerState:
    """All processes of the container are frozen."""
    return msgspec.structs.replace(state, status=next_status(state.status, Move.PAUSED))


def unpaused(state: ContainerState) -> ContainerState:
    """All processes of the container go on."""
    return msgspec.structs.replace(state, status=next_status(state.status, Move.UNPAUSED))


def exited(state: ContainerState, *, exit_code: int, oom_killed: bool, now_ns: int, error: str = "") -> ContainerState:
    """PID 1 is gone and will not be started again by itself."""
    status = next_status(state.status, Move.EXITED)
    return _ended(state, status, exit_code=exit_code, oom_killed=oom_killed, now_ns=now_ns, error=error)


def restarting(state: ContainerState, *, exit_code: int, oom_killed: bool, now_ns: int) -> ContainerState:
    """PID 1 is gone, and the restart policy will start it again after a while."""
    status = next_status(state.status, Move.RESTARTING)
    return _ended(state, status, exit_code=exit_code, oom_killed=oom_killed, now_ns=now_ns, error="")


def restart_cancelled(state: ContainerState) -> ContainerState:
    """Somebody stopped the container between two runs."""
    return msgspec.structs.replace(state, status=next_status(state.status, Move.RESTART_CANCELLED))


def removing(state: ContainerState) -> ContainerState:
    """The container's files are being removed; nothing else may be done with the container."""
    return msgspec.structs.replace(state, status=next_status(state.status, Move.REMOVING))


def remove_failed(state: ContainerState, *, error: str) -> ContainerState:
    """Something of the container could not be removed; removing it again may work."""
    return msgspec.structs.replace(state, status=next_status(state.status, Move.REMOVE_FAILED), error=error)


def lost(error: str) -> ContainerState:
    """Where a container is whose state was not kept: it can be removed, and nothing else."""
    return ContainerState(status=Status.DEAD, error=error)


def _ended(state: ContainerState, status: Status, *, exit_code: int, oom_killed: bool, now_ns: int, error: str) -> ContainerState:
    return msgspec.structs.replace(
        state, status=status, pid=0, exit_code=exit_code, error=error, oom_killed=oom_killed, finished_at_ns=now_ns
    )
