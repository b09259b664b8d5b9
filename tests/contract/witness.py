"""Every method of a fake is exercised: a `Witness` sees which of them a suite calls.

What counts are calls from outside the fake's own module, by the suite or by the code that the suite drives.
"""

from __future__ import annotations

import functools
import inspect
import sys
from collections.abc import Callable
from typing import Any, TypeVar

T = TypeVar("T")

# Of the methods with underscores these are part of what somebody else uses.
_SPECIAL = frozenset({"__aiter__"})


def methods_of(kind: type[object]) -> frozenset[str]:
    """The public methods that a fake defines; what it merely inherits is the real one's."""
    return frozenset(name for name, value in vars(kind).items() if inspect.isfunction(value) and (name[0] != "_" or name in _SPECIAL))


class Witness:
    """Watches the fakes of one suite."""

    def __init__(self) -> None:
        self._missing: dict[type[object], set[str]] = {}

    def watch(self, fake: T) -> T:
        """The same object, whose calls are seen from now on."""
        kind = type(fake)
        missing = self._missing.setdefault(kind, set(methods_of(kind)))
        methods = {name: _seen(getattr(kind, name), missing) for name in methods_of(kind)}
        fake.__class__ = type(kind.__name__, (kind,), methods)
        return fake

    def uncalled(self, kind: type[object]) -> set[str]:
        """The methods of the fakes of this kind that nobody has called."""
        return self._missing[kind]


def _seen(method: Callable[..., Any], missing: set[str]) -> Callable[..., Any]:
    own_file = method.__code__.co_filename

    @functools.wraps(method)
    def called(*args: Any, **options: Any) -> Any:
        if sys._getframe(1).f_code.co_filename != own_file:
            missing.discard(method.__name__)
        return method(*args, **options)

    return called
