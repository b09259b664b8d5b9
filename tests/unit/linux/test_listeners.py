"""The kernel's lists of sockets."""

from __future__ import annotations

from teul.linux.listeners import Listener, parse

_HEAD = "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode\n"
# As a little-endian machine prints them.
TCP4 = (
    _HEAD
    + "   0: 00000000:0050 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 1 1 0 100 0 0 10 0\n"
    + "   1: 0100007F:1F90 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 2 1 0 100 0 0 10 0\n"
    + "   2: 020011AC:0050 090011AC:8D3C 01 00000000:00000000 00:00000000 00000000     0        0 3 1 0 100 0 0 10 0\n"
)
TCP6 = _HEAD + (
    "   0: 00000000000000000000000001000000:0035 00000000000000000000000000000000:0000 0A 00000000:00000000 00:00000000 00000000 0 0 4\n"
)
UDP4 = _HEAD + (
    "  93: 00000000:14E9 00000000:0000 07 00000000:00000000 00:00000000 00000000     0        0 5 2 0 0\n"
    "  94: 020011AC:14EA 01010101:0035 01 00000000:00000000 00:00000000 00000000     0        0 6 2 0 0\n"
)


def test_those_that_listen_and_no_others() -> None:
    """Not connections; of UDP, not sockets that take from one peer only."""
    assert parse(TCP4, "tcp", 4) == [Listener("tcp", "0.0.0.0", 80), Listener("tcp", "127.0.0.1", 8080)]
    assert parse(TCP6, "tcp", 6) == [Listener("tcp", "::1", 53)]
    assert parse(UDP4, "udp", 4) == [Listener("udp", "0.0.0.0", 5353)]
    assert parse(_HEAD, "tcp", 4) == []
