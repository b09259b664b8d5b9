"""The options of `network create` about addresses: what goes into the request, and what docker's client refuses."""

from __future__ import annotations

import re
from typing import Any

import pytest

from teul.cli.creation.ipam import build_ipam_config


def build(*subnets: str, **options: Any) -> list[dict[str, Any]]:
    return build_ipam_config(subnets, **{"ranges": (), "gateways": (), "auxiliary": {}, **options})


def test_everything_goes_to_the_subnet_that_has_it() -> None:
    """IPv4 and IPv6 are told apart by the addresses alone."""
    options = {"ranges": ["fd00::/80", "10.1.2.0/24"], "gateways": ["10.1.0.9", "fd00::9"], "auxiliary": {"a": "10.1.0.3", "b": "fd00::3"}}
    assert build("10.1.0.0/16", "fd00::/64", **options) == [
        {"Subnet": "10.1.0.0/16", "IPRange": "10.1.2.0/24", "Gateway": "10.1.0.9", "AuxiliaryAddresses": {"a": "10.1.0.3"}},
        {"Subnet": "fd00::/64", "IPRange": "fd00::/80", "Gateway": "fd00::9", "AuxiliaryAddresses": {"b": "fd00::3"}},
    ]


def test_a_single_subnet_is_judged_by_the_engine() -> None:
    assert build("nonsense") == [{"Subnet": "nonsense", "AuxiliaryAddresses": {}}]


@pytest.mark.parametrize(
    ("subnets", "options", "message"),
    [
        ([], {"gateways": ["10.0.0.1"]}, "every ip-range or gateway must have a corresponding subnet"),
        (["10.0.0.0/8", "10.1.0.0/16"], {}, "multiple overlapping subnet configuration is not supported"),
        (["10.0.0.0/8", "x"], {}, "invalid subnet: invalid CIDR address: x"),
        (["10.0.0.0/8"], {"ranges": ["11.0.0.0/16"]}, "no matching subnet for range 11.0.0.0/16"),
        (["10.0.0.0/8"], {"ranges": ["10.0.0.0/99"]}, "invalid CIDR address: 10.0.0.0/99"),
        (["10.0.0.0/8"], {"gateways": ["nonsense"]}, "no matching subnet for gateway nonsense"),
        (["10.0.0.0/8"], {"auxiliary": {"a": "11.0.0.1"}}, "no matching subnet for aux-address 11.0.0.1"),
        (
            ["10.0.0.0/16", "11.0.0.0/16"],
            {"gateways": ["10.0.0.1", "10.0.0.2"]},
            "cannot configure multiple gateways (10.0.0.2, 10.0.0.1) for the same subnet (10.0.0.0/16)",
        ),
        (
            ["10.0.0.0/16", "11.0.0.0/16"],
            {"ranges": ["10.0.0.0/24", "10.0.1.0/24"]},
            "cannot configure multiple ranges (10.0.1.0/24, 10.0.0.0/24) on the same subnet (10.0.0.0/16)",
        ),
    ],
)
def test_what_does_not_fit_together(subnets: list[str], options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        build(*subnets, **options)
