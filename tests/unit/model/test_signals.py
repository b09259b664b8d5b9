"""Signals by name and number, as Docker takes them."""

from __future__ import annotations

import signal

import pytest

from teul.errors import InvalidParameter
from teul.model.signals import InvalidSignal, parse_signal


@pytest.mark.parametrize(
    ("text", "number"),
    [
        ("9", 9),
        ("KILL", 9),
        ("SIGKILL", 9),
        ("sigterm", 15),
        ("Hup", 1),
        ("CLD", 17),
        ("IOT", 6),
        ("POLL", 29),
        ("STKFLT", 16),
        ("RTMIN", signal.SIGRTMIN),
        ("SIGRTMIN+3", signal.SIGRTMIN + 3),
        ("rtmin+15", signal.SIGRTMIN + 15),
        ("RTMAX-14", signal.SIGRTMAX - 14),
        ("RTMAX", signal.SIGRTMAX),
        ("64", 64),
    ],
)
def test_signals(text: str, number: int) -> None:
    assert parse_signal(text) == number


def test_a_number_beyond_the_kernels_is_not_supported() -> None:
    with pytest.raises(InvalidParameter, match="the linux daemon does not support signal 65"):
        parse_signal("65")


@pytest.mark.parametrize("text", ["", "0", "-9", "SIG", "FOO", "SIGSIGKILL", "RTMIN+16", "RTMIN-1", "RTMAX-15", "RTMIN+", "9 ", "٩"])
def test_what_is_no_signal(text: str) -> None:
    with pytest.raises(InvalidSignal) as caught:
        parse_signal(text)
    assert caught.value.message == f"invalid signal: {text}"
