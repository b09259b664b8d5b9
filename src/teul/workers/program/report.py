"""What a worker has to say, and how a job ends: JSON lines on descriptor 1 (`messages`), the last of them the result or the failure.

A report without such a last line means that the worker died. Which exception is which kind of failure each program says in a table of its
own: a malformed archive is the client's fault in `docker load` and the daemon's failure in `docker cp`, and clients know docker's answers.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, NoReturn

from teul.store.atomic import write_all

if TYPE_CHECKING:
    from teul.workers.program.messages import Failure, FailureKind, Line, Result

# The input of a job that reads an archive.
SOURCE_FD = 0
_REPORT_FD = 1


class Rule:
    """Exceptions of these classes mean this kind of failure; of an `OSError` those with one of `errnos`, if there are any."""

    __slots__ = ("errnos", "exceptions", "kind")

    def __init__(self, kind: FailureKind, *exceptions: type[Exception], errnos: frozenset[int] = frozenset()) -> None:
        self.kind = kind
        self.exceptions = exceptions
        self.errnos = errnos


def report(line: Line) -> None:
    """Tell the engine; waits while the engine does not read."""
    write_all(_REPORT_FD, json.dumps(line).encode() + b"\n")


def finish(job: Callable[[], Result], rules: Sequence[Rule]) -> NoReturn:
    """Do the job, report its result or its failure, and end the process. The first of `rules` that fits decides about the kind."""
    try:
        report({"done": job()})
    except Exception as error:  # noqa: BLE001 - boundary: the process ends here, the engine logs what is a bug
        report(failure(error, rules))
    # Nothing is left to be flushed or closed, and freeing the memory of a worker that unpacked a lot would take a while.
    os._exit(0)


def failure(error: Exception, rules: Sequence[Rule]) -> Failure:
    """The last line of a report on a job that raised `error`: a bug, with the traceback, if no rule fits."""
    for rule in rules:
        if isinstance(error, rule.exceptions) and (not rule.errnos or (isinstance(error, OSError) and error.errno in rule.errnos)):
            return {"error": _text(error), "kind": rule.kind}
    return {"error": _traceback(error), "kind": "bug"}


def _traceback(error: BaseException) -> str:
    """What the module traceback would say, without the lines of the source, which nobody can read in here: loading it takes 2 ms."""
    cause = error.__cause__ or (None if error.__suppress_context__ else error.__context__)
    lines = [] if cause is None else [_traceback(cause), "\nAnd then:\n\n"]
    lines.append("Traceback (most recent call last):\n")
    place = error.__traceback__
    while place is not None:
        code = place.tb_frame.f_code
        lines.append(f'  File "{code.co_filename}", line {place.tb_lineno}, in {code.co_name}\n')
        place = place.tb_next
    name = type(error).__name__
    lines.append(f"{name}: {text}\n" if (text := str(error)) else f"{name}\n")
    return "".join(lines)


def _text(error: Exception) -> str:
    if isinstance(error, MemoryError):
        return "the archive needs more memory than a worker may have"
    if not isinstance(error, OSError):
        return str(error)
    # An OSError's text goes without Python's "[Errno 2]". docker: the kernel's own words are small, as Go has them.
    text, words = str(error.args[-1]), os.strerror(error.errno or 0)
    return text.removesuffix(words) + words.lower() if text.endswith(words) else text
