"""Signals by name or number, as Docker's API takes them."""

from __future__ import annotations

import re
import signal

from teul.errors import InvalidParameter
from teul.model.number import parse_int64

# Other names of the same numbers, which `signal.Signals` leaves out.
_ALIASES = {"CLD": signal.SIGCHLD.value, "IOT": signal.SIGABRT.value, "POLL": signal.SIGIO.value}
_NAMES = {each.name.removeprefix("SIG"): each.value for each in signal.Signals} | _ALIASES
_REAL_TIME = re.compile(r"RT(MIN\+(?P<above>[0-9]{1,2})|MAX-(?P<below>[0-9]{1,2}))")
# docker: up to RTMIN+15 and down to RTMAX-14, so that every real-time signal has one name.
_ABOVE, _BELOW = range(1, 16), range(1, 15)


class InvalidSignal(InvalidParameter):
    """There is no such signal."""

    def __init__(self, text: str) -> None:
        super().__init__(f"invalid signal: {text}")


def parse_signal(text: str) -> int:
    """`9`, `KILL`, `SIGKILL`, `sigrtmin+3` to a number. Raises InvalidSignal.

    docker: a number is taken as it is, as long as it is one that the kernel could know (moby/sys signal.ParseSignal).
    """
    if text.isascii() and text.isdigit():
        try:
            number = parse_int64(text)
        except ValueError:
            raise InvalidSignal(text) from None
        if number == 0:
            raise InvalidSignal(text)
        if number >= signal.NSIG:
            raise InvalidParameter(f"the linux daemon does not support signal {number}")
        return number
    name = text.upper().removeprefix("SIG")
    if name in _NAMES:
        return _NAMES[name]
    match = _REAL_TIME.fullmatch(name)
    if match is not None and match["above"] and int(match["above"]) in _ABOVE:
        return signal.SIGRTMIN + int(match["above"])
    if match is not None and match["below"] and int(match["below"]) in _BELOW:
        return signal.SIGRTMAX - int(match["below"])
    raise InvalidSignal(text)
