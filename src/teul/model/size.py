"""Sizes as people read and write them (go-units). Free of `re`: this is on the path of every command."""

from __future__ import annotations

_BINARY = {"k": 1024, "m": 1024**2, "g": 1024**3, "t": 1024**4, "p": 1024**5}
_DECIMAL = ("B", "kB", "MB", "GB", "TB", "PB", "EB", "ZB", "YB")


def human_size(size_bytes: float, digits: int = 4) -> str:
    """In powers of 1000: `2.746MB`."""
    return scaled_size(size_bytes, 1000.0, _DECIMAL, digits)


def scaled_size(size: float, base: float, names: tuple[str, ...], digits: int) -> str:
    """`size` in the largest of the units `names`, each `base` of the one before, that leaves something before the point."""
    index = 0
    while size >= base and index < len(names) - 1:
        size /= base
        index += 1
    # Go's %g prints an exponent of at least two digits, as Python's does.
    return f"{size:.{digits}g}{names[index]}"


def is_decimal(text: str) -> bool:
    """Whether it is a number without sign and exponent."""
    whole, _, fraction = text.partition(".")
    return text.isascii() and (whole + fraction).isdigit()


def parse_memory(text: str) -> int:
    """Bytes, as in `64m`, `1.5g`, `10MiB` (go-units RAMInBytes: powers of 1024, case and a final b do not matter). Raises ValueError."""
    last = max((index for index, character in enumerate(text) if character in "0123456789. "), default=-1)
    if last < 0:
        raise ValueError(f"invalid size: '{text}'")
    number = text[: last + 1].removesuffix(" ") if text[last] == " " else text[: last + 1]
    suffix = text[last + 1 :]
    if number[:1] == "-" and is_decimal(number[1:]):
        raise ValueError(f"invalid size: '{text}'")
    if not is_decimal(number.removeprefix("+")):
        raise ValueError(f'strconv.ParseFloat: parsing "{number}": invalid syntax')
    unit = suffix.lower()
    if unit in ("", "b"):
        return int(float(number))
    if unit[0] not in _BINARY or unit[1:] not in ("", "b", "ib"):
        raise ValueError(f"invalid suffix: '{unit if len(suffix) <= 3 else suffix}'")
    return int(float(number) * _BINARY[unit[0]])
