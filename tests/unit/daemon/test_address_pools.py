"""Where the addresses of networks come from, as the command line says."""

from __future__ import annotations

import ipaddress
import re

import pytest

from teul.daemon.config import parse_arguments
from teul.errors import InvalidParameter
from teul.network.ipam import Pool

ENVIRONMENT = {"HOME": "/home/x"}


def test_pools_and_the_bridge_address_are_taken_as_they_are_given() -> None:
    config = parse_arguments(
        ["--bip", "10.9.0.5/16", "--default-address-pool", "base=10.10.0.0/16,size=24", "--default-address-pool", "size=64,base=fd00::/48"],
        ENVIRONMENT,
    )
    assert config.bridge_address == ipaddress.IPv4Interface("10.9.0.5/16")
    assert config.address_pools == (Pool(ipaddress.ip_network("10.10.0.0/16"), 24), Pool(ipaddress.ip_network("fd00::/48"), 64))


@pytest.mark.parametrize(
    ("option", "value", "message"),
    [
        ("--bip", "x", "parse bip failed: invalid CIDR address: x"),
        ("--bip", "10.0.0.1", "parse bip failed: invalid CIDR address: 10.0.0.1"),
        ("--bip", "fd00::1/64", "parse bip failed: invalid CIDR address: fd00::1/64"),
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
