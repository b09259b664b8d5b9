"""Messages of syslog and of the journal, byte for byte as Docker's drivers send them."""

from __future__ import annotations

import time
from collections.abc import Iterator

import pytest

from teul.wire.journal import entry, field_name
from teul.wire.syslog import Formatter

NOW_NS = 1_767_323_045_123_456_789


@pytest.fixture(params=["UTC", "IST-5:30"])
def zone(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    monkeypatch.setenv("TZ", request.param)
    time.tzset()
    yield request.param
    monkeypatch.undo()
    time.tzset()


@pytest.mark.parametrize(
    ("form", "utc", "east"),
    [
        ("", "<30>Jan  2 03:04:05 tag[7]: line\n", "<30>Jan  2 08:34:05 tag[7]: line\n"),
        ("rfc3164", "<30>Jan  2 03:04:05 host tag[7]: line\n", "<30>Jan  2 08:34:05 host tag[7]: line\n"),
        (
            "rfc5424",
            "<30>1 2026-01-02T03:04:05Z host tag 7 tag - line\n",
            "<30>1 2026-01-02T08:34:05+05:30 host tag 7 tag - line\n",
        ),
        (
            "rfc5424micro",
            "<30>1 2026-01-02T03:04:05.123456Z host tag 7 tag - line\n",
            "<30>1 2026-01-02T08:34:05.123456+05:30 host tag 7 tag - line\n",
        ),
    ],
)
def test_formats(zone: str, form: str, utc: str, east: str) -> None:
    formatter = Formatter(form, facility=3, tag="tag", hostname="host", pid=7, counted=False)
    assert formatter.message(1, NOW_NS, b"line").decode() == (utc if zone == "UTC" else east)
    assert formatter.message(2, NOW_NS, b"line").startswith(b"<27>"), "what comes from stderr is an error"


def test_over_tls_the_newer_formats_say_how_long_a_message_is() -> None:
    """RFC 5425; docker: the older ones do not."""
    counted = Formatter("rfc5424", facility=3, tag="t", hostname="h", pid=7, counted=True).message(1, NOW_NS, b"line")
    length, _, message = counted.partition(b" ")
    assert int(length) == len(message)
    assert Formatter("rfc3164", facility=3, tag="t", hostname="h", pid=7, counted=True).message(1, NOW_NS, b"x").startswith(b"<")


def test_an_entry_of_the_journal() -> None:
    found = entry({"CONTAINER_TAG": "a\nb"}, 2, NOW_NS, b"text", ordinal=3, partial=True)
    assert found == (
        b"MESSAGE=text\nPRIORITY=3\nCONTAINER_TAG\n\x03\0\0\0\0\0\0\0a\nb\n"
        b"SYSLOG_TIMESTAMP=2026-01-02T03:04:05.123456789Z\nCONTAINER_LOG_ORDINAL=3\nCONTAINER_PARTIAL_MESSAGE=true\n"
    )


@pytest.mark.parametrize(("text", "name"), [("com.example/x", "COM_EXAMPLE_X"), ("__a1", "A1"), ("é", ""), ("A", "A")])
def test_names_of_fields(text: str, name: str) -> None:
    assert field_name(text) == name
