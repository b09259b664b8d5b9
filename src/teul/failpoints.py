"""Named places where an engine may be killed, its caller may leave, or the host may refuse: after every durable step, and wherever
something was made on the host or promised to somebody.

Nothing happens here. `tests/faults` puts a function of its own in the place of `reach`, in the processes that it judges, and makes things
go wrong there. That is why callers write `failpoints.reach("room.what.step")`, with the name in full: each name stands once in the source,
says what is done by then, and is reached by a test (`tests/unit/test_failpoints.py`).
"""

from __future__ import annotations


def reach(name: str) -> None:
    """The program has come to the point `name`."""
