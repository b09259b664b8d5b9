"""Values as people write them, to numbers: durations, booleans. The refusals are Go's and Docker's texts.

Pure, and free of `re`: this is on the path of every command.
"""

from __future__ import annotations

from teul.model.size import is_decimal

_TRUE = frozenset(("1", "t", "T", "true", "TRUE", "True"))
_FALSE = frozenset(("0", "f", "F", "false", "FALSE", "False"))
# Go's time.ParseDuration
_DURATION_UNITS_NS = {"ns": 1, "us": 1000, "µs": 1000, "μs": 1000, "ms": 10**6, "s": 10**9, "m": 60 * 10**9, "h": 3600 * 10**9}
_INT64_MAX = 2**63 - 1


def parse_bool(text: str) -> bool:
    if text in _TRUE:
        return True
    if text in _FALSE:
        return False
    raise ValueError(f'strconv.ParseBool: parsing "{text}": invalid syntax')


def parse_integer(text: str, *, minimum: int = -_INT64_MAX - 1, maximum: int = _INT64_MAX, function: str = "ParseInt") -> int:
    """A number in decimal, or in hexadecimal, octal or binary with its prefix (strconv.ParseInt with base 0)."""
    digits = text[1:] if text[:1] in ("+", "-") else text
    try:
        if not digits[:1].isdigit() or not digits.isascii() or (minimum == 0 and text[:1] in ("+", "-")):
            raise ValueError
        octal = len(digits) > 1 and digits[0] == "0" and digits[1].isdigit()
        value = int(digits, 8 if octal else 0) * (-1 if text[0] == "-" else 1)
    except ValueError:
        raise ValueError(f'strconv.{function}: parsing "{text}": invalid syntax') from None
    if not minimum <= value <= maximum:
        raise ValueError(f'strconv.{function}: parsing "{text}": value out of range')
    return value


def parse_cpus(text: str) -> int:
    """Billionths of a processor, exactly: `1.5` is 1500000000."""
    sign = -1 if text[:1] == "-" else 1
    digits = text.lstrip("+-") if len(text) - len(text.lstrip("+-")) <= 1 else ""
    numerator, slash, denominator = digits.partition("/")
    if not is_decimal(numerator) or (slash and not (denominator.isdigit() and int(denominator))):
        raise ValueError(f"failed to parse {text} as a rational number")
    whole, _, fraction = numerator.partition(".")
    scale: int = 10 ** len(fraction) * (int(denominator) if slash else 1)
    nano, remainder = divmod(int(whole + fraction) * 10**9, scale)
    if remainder:
        raise ValueError("value is too precise")
    return sign * nano


def parse_duration_ns(text: str) -> int:
    """Nanoseconds of a Go duration such as `1h30m` or `1.5s`."""
    invalid = ValueError(f'time: invalid duration "{text}"')
    sign, rest = (-1, text[1:]) if text[:1] == "-" else (1, text.removeprefix("+"))
    if rest == "0":
        return 0
    total_ns = 0
    if not rest:
        raise invalid
    while rest:
        count = next((index for index, character in enumerate(rest) if character not in "0123456789."), len(rest))
        number, rest = rest[:count], rest[count:]
        length = next((index for index, character in enumerate(rest) if character in "0123456789."), len(rest))
        unit, rest = rest[:length], rest[length:]
        if not is_decimal(number):
            raise invalid
        if not unit:
            raise ValueError(f'time: missing unit in duration "{text}"')
        if unit not in _DURATION_UNITS_NS:
            raise ValueError(f'time: unknown unit "{unit}" in duration "{text}"')
        whole, _, fraction = number.partition(".")
        total_ns += int(whole + fraction or "0") * _DURATION_UNITS_NS[unit] // 10 ** len(fraction)
    if total_ns > _INT64_MAX:
        raise invalid
    return sign * total_ns


def is_ip_address(text: str) -> bool:
    """Whether `text` is an IPv4 or IPv6 address. `ipaddress` would cost more than the whole command line."""
    from _socket import AF_INET, AF_INET6, inet_pton

    try:
        inet_pton(AF_INET6 if ":" in text else AF_INET, text)
    except OSError:
        return False
    return True
