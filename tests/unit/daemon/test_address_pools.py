"""Where the addresses of networks come from, as the command line says."""

from __future__ import annotations

import ipaddress
import re

import pytest

from teul.daemon.config import parse_arguments
from teul.errors import InvalidParameter
from teul.network.ipam import Pool

ENVIRONMENT = {"HOME": "/home/x"}


def test_pools_are_taken_as_they_are_given() -> None:
    config = parse_arguments(
        ["--default-address-pool", "base=10.10.0.0/16,size=24", "--default-address-pool", "size=64,base=fd00::/48"],
        ENVIRONMENT,
    )
    assert config.address_pools == (Pool(ipaddress.ip_network("10.10.0.0/16"), 24), Pool(ipaddress.ip_network("fd00::/48"), 64))


@pytest.mark.parametrize(
    ("option", "value", "message"),
    [
        ("--default-address-pool", "x", "invalid field 'x' must be a key=value pair"),
        ("--default-address-pool", "foo=x", "unexpected key 'foo' in 'foo=x'"),
        ("--default-address-pool", "base=x/8,size=16", 'invalid base prefix "x/8"'),
        ("--default-address-pool", "base=10.0.0.0,size=16", 'invalid base prefix "10.0.0.0"'),
        ("--default-address-pool", "base=10.0.0.0/8,size=x", 'invalid size value: "base=10.0.0.0/8,size=x" (must be integer)'),
        ("--default-address-pool", "base=10.0.0.0/8", "a base and a size are needed"),
        ("--default-address-pool", "base=10.0.0.0/8,size=7", "size 7 does not fit into 10.0.0.0/8"),
        ("--default-address-pool", "base=10.0.0.0/8,size=33", "size 33 does not fit into 10.0.0.0/8"),
    ],
)
def test_what_cannot_be_meant(option: str, value: str, message: str) -> None:
    with pytest.raises(InvalidParameter, match=re.escape(message)):
        parse_arguments([option, value], ENVIRONMENT)
