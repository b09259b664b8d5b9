"""`--default-address-pool`: which addresses the engine's networks get that ask for none. Pure.

docker: daemon/pkg/opts/address_pools.go.
"""

from __future__ import annotations

import ipaddress
import json

from teul.errors import InvalidParameter
from teul.network.ipam import Pool


def parse_pool(text: str) -> Pool:
    """`base=CIDR,size=BITS`: a stretch of addresses, and how large the subnets are that it is cut into. Raises InvalidParameter."""
    try:
        return _parse_pool(text)
    except ValueError as error:
        raise InvalidParameter(f'invalid argument {json.dumps(text)} for "--default-address-pool" flag: {error}') from None


def _parse_pool(text: str) -> Pool:
    base: ipaddress.IPv4Network | ipaddress.IPv6Network | None = None
    size: int | None = None
    for field in text.split(","):
        name, equals, value = field.lower().partition("=")
        if not equals:
            raise ValueError(f"invalid field '{field}' must be a key=value pair")
        if name == "base":
            base = _parse_base(value)
        elif name == "size":
            if not value.isascii() or not value.isdigit():
                raise ValueError(f'invalid size value: "{text}" (must be integer): strconv.Atoi: parsing "{value}": invalid syntax')
            size = int(value)
        else:
            raise ValueError(f"unexpected key '{name}' in '{field}'")
    if base is None or size is None:
        raise ValueError("a base and a size are needed")
    if not base.prefixlen <= size <= base.max_prefixlen:
        raise ValueError(f"size {size} does not fit into {base}")
    return Pool(base, size)


def _parse_base(text: str) -> ipaddress.IPv4Network | ipaddress.IPv6Network:
    if "/" not in text:
        raise ValueError(f'invalid base prefix "{text}": netip.ParsePrefix("{text}"): no \'/\'')
    try:
        return ipaddress.ip_network(text, strict=False)
    except ValueError as error:
        raise ValueError(f'invalid base prefix "{text}": {error}') from None
