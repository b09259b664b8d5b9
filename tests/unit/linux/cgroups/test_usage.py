"""The kernel's counters as text, and what is read from them."""

from __future__ import annotations

import pytest

from teul.linux.cgroups.usage import parse_flat, parse_io_v1, parse_io_v2, parse_limit, parse_system_cpu
from teul.linux.netdev import parse_interfaces


def test_the_hosts_time_is_the_first_seven_fields_and_processors_are_counted() -> None:
    text = "cpu  10 20 30 40 50 60 70 800 900 1000\ncpu0 1 2 3 4 5 6 7 0 0 0\ncpu1 1 1 1 1 1 1 1 0 0 0\nintr 5 6\ncpufreq 9\n"
    assert parse_system_cpu(text) == (280 * 10_000_000, 2)


def test_flat_files_are_names_and_numbers() -> None:
    assert parse_flat("anon 4096\nfile 0\nodd\nnested a=1\nnegative -1\n") == {"anon": 4096, "file": 0, "negative": -1}
    assert parse_flat("") == {}


def test_v1_block_counters_keep_the_kernels_words_and_drop_the_grand_total() -> None:
    assert parse_io_v1("8:0 Read 4096\n8:0 Total 4096\n259:1 Write 1\nTotal 4097\n") == [
        (8, 0, "Read", 4096),
        (8, 0, "Total", 4096),
        (259, 1, "Write", 1),
    ]


def test_v2_block_counters_are_two_entries_a_device() -> None:
    text = "8:0 rbytes=4096 wbytes=512 rios=1 wios=1 dbytes=0 dios=0\n7:0 \n8:16 rbytes=1\n"
    assert parse_io_v2(text) == [(8, 0, "read", 4096), (8, 0, "write", 512), (8, 16, "read", 1), (8, 16, "write", 0)]


@pytest.mark.parametrize("text", ["max\n", "9223372036854771712\n", "9223372036854710272\n", "-1\n", ""])
def test_no_limit_has_many_spellings(text: str) -> None:
    assert parse_limit(text) is None


def test_a_limit_is_a_number() -> None:
    assert parse_limit("67108864\n") == 67108864


def test_interfaces_are_those_that_somebody_gave() -> None:
    """Loopback and the kernel's own fallback tunnels are nobody's traffic."""
    text = (
        "Inter-|   Receive                                                |  Transmit\n"
        " face |bytes    packets errs drop fifo frame compressed multicast|bytes    packets errs drop fifo colls carrier compressed\n"
        "    lo: 9 9 9 9 9 9 9 9 9 9 9 9 9 9 9 9\n"
        " tunl0: 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0\n"
        "  eth0:1500 3 1 2 0 0 0 0 700 5 4 6 0 0 0 0\n"
    )
    assert parse_interfaces(text) == {
        "eth0": {
            "rx_bytes": 1500,
            "rx_packets": 3,
            "rx_errors": 1,
            "rx_dropped": 2,
            "tx_bytes": 700,
            "tx_packets": 5,
            "tx_errors": 4,
            "tx_dropped": 6,
        }
    }
    assert parse_interfaces("") == {}
