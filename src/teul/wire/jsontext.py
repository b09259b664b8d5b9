"""JSON to values and back, without the cost of importing `json`.

`json` imports `re`, which imports `enum` and a dozen more: 6 ms, a third of the time that `teul run` may spend on itself. The
interpreter's own scanner and string encoder are in the C module `_json` and need none of that. Where it is missing (another
implementation than CPython), `json` does the work.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

_WHITESPACE = " \t\r\n"


class InvalidJson(ValueError):
    """The text is not JSON."""


def _reject_constant(name: str) -> object:
    raise InvalidJson(f"{name} is not JSON")


class _ScannerOptions:
    """What `_json.make_scanner` reads from its argument (CPython Modules/_json.c, scanner_new)."""

    strict = True
    object_hook = None
    object_pairs_hook = None
    parse_float = float
    parse_int = int
    parse_constant = staticmethod(_reject_constant)


def _load() -> tuple[Callable[[str, int], tuple[object, int]], Callable[[str], str]]:
    try:
        import _json  # noqa: PLC0415 - see the module's docstring
    except ImportError:
        import json  # noqa: PLC0415

        return json.JSONDecoder(parse_constant=_reject_constant).raw_decode, lambda text: json.dumps(text, ensure_ascii=False)
    # typeshed believes that the argument is a scanner; it is any object with a decoder's attributes.
    return _json.make_scanner(_ScannerOptions()), _json.encode_basestring  # type: ignore[arg-type]


_scan, _encode_string = _load()


def decode(data: bytes | str) -> Any:
    """The value that `data` (UTF-8) holds. Raises `InvalidJson`."""
    try:
        text = data if isinstance(data, str) else data.decode("utf-8")
        start = len(text) - len(text.lstrip(_WHITESPACE))
        value, end = _scan(text, start)
    except StopIteration:
        raise InvalidJson("expected a value") from None
    except SystemError:
        # The C scanner takes its exception class from `json.decoder` and, where nobody has imported that, raises nothing at all.
        raise InvalidJson("malformed document") from None
    except (ValueError, RecursionError) as error:
        raise InvalidJson(str(error)) from None
    if text[end:].strip(_WHITESPACE):
        raise InvalidJson(f"text after the value, at position {end}")
    return value


def encode(value: object) -> bytes:
    """`value` as compact JSON in UTF-8. What is no Unicode (bytes that came through argv) becomes a question mark."""
    parts: list[str] = []
    _write(value, parts.append, "", "")
    return "".join(parts).encode("utf-8", "replace")


def render(value: object, *, indent: str = "", sort_keys: bool = False) -> str:
    """`value` as text: compact, or indented as Go's `json.Indent` does, with empty containers on one line."""
    parts: list[str] = []
    _write(_sorted(value) if sort_keys else value, parts.append, indent, "\n" if indent else "")
    return "".join(parts)


def reindent(text: str, indent: str) -> str:
    """The JSON `text`, which must be valid, laid out as Go's `json.Indent` does: every token stays as it is, members keep their order."""
    parts: list[str] = []
    newline, position, opened = "\n", 0, False
    while position < len(text):
        character = text[position]
        end = position + 1
        if character in _WHITESPACE:
            position = end
            continue
        if opened and character not in "]}":
            newline += indent
            parts.append(newline)
        if character == '"':
            end = _end_of_string(text, position)
            parts.append(text[position:end])
        elif character == ":":
            parts.append(": ")
        elif character == ",":
            parts.append("," + newline)
        elif character in "]}":
            if not opened:
                newline = newline[: len(newline) - len(indent)]
                parts.append(newline)
            parts.append(character)
        else:
            parts.append(character)
        opened = character in "[{"
        position = end
    return "".join(parts)


def _end_of_string(text: str, start: int) -> int:
    position = start + 1
    while text[position] != '"':
        position += 2 if text[position] == "\\" else 1
    return position + 1


def _sorted(value: object) -> object:
    if isinstance(value, dict):
        return {key: _sorted(value[key]) for key in sorted(value)}
    if isinstance(value, (list, tuple)):
        return [_sorted(item) for item in value]
    return value


def _write(value: object, write: Callable[[str], object], indent: str, newline: str) -> None:
    """`newline` is a line feed and the present depth's indentation, or empty for compact output."""
    if isinstance(value, str):
        write(_encode_string(value))
    elif value is None:
        write("null")
    elif value is True:
        write("true")
    elif value is False:
        write("false")
    elif isinstance(value, (int, float)):
        write(repr(value))
    elif isinstance(value, dict):
        separator = "{"
        for key, item in value.items():
            write(f"{separator}{newline}{indent}{_encode_string(key)}:{' ' if newline else ''}")
            _write(item, write, indent, newline + indent)
            separator = ","
        write(f"{newline}}}" if value else "{}")
    elif isinstance(value, (list, tuple)):
        separator = "["
        for item in value:
            write(f"{separator}{newline}{indent}")
            _write(item, write, indent, newline + indent)
            separator = ","
        write(f"{newline}]" if value else "[]")
    else:
        raise TypeError(f"{type(value).__name__} is not JSON")
