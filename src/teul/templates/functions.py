"""The vocabulary of templates: tokens, literals, Go's rules for truth and printing, the builtin functions and docker's. Pure."""

from __future__ import annotations

from teul.wire.jsontext import render

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any


class TemplateError(Exception):
    """The template is malformed, or does not fit the value."""


_ESCAPES = {"n": "\n", "t": "\t", "r": "\r", "\\": "\\", '"': '"', "'": "'", "a": "\a", "b": "\b", "f": "\f", "v": "\v"}


def tokenize(text: str) -> list[tuple[str, str]]:
    """(kind, text) pairs: dot, field, chained (a field directly behind something), variable, word, literal, and punctuation."""
    tokens: list[tuple[str, str]] = []
    position, spaced = 0, True
    while position < len(text):
        character = text[position]
        if character.isspace():
            position, spaced = position + 1, True
            continue
        kind, value, position = _token(text, position, spaced=spaced or not tokens or tokens[-1][0] in ("(", "|", ","))
        tokens.append((kind, value))
        spaced = False
    return tokens


def _token(text: str, position: int, *, spaced: bool) -> tuple[str, str, int]:
    character = text[position]
    if character in "()|,":
        return character, character, position + 1
    if character == "=" or text.startswith(":=", position):
        end = position + (1 if character == "=" else 2)
        return "assignment", text[position:end], end
    if character in "\"'`":
        end = _string_end(text, position)
        return "literal", text[position:end], end
    if character == "." and not text[position + 1 : position + 2].isdigit():
        end = _name_end(text, position + 1)
        if end == position + 1:
            return "dot", ".", end
        return "field" if spaced else "chained", text[position + 1 : end], end
    if character == "$":
        end = _name_end(text, position + 1)
        return "variable", text[position:end], end
    if character.isdigit() or character in ".+-":
        end = position + 1
        while end < len(text) and (text[end].isalnum() or text[end] in "._+-"):
            end += 1
        return "literal", text[position:end], end
    end = _name_end(text, position)
    if end == position:
        raise TemplateError(f"template: :1: unexpected {character!r} in command".replace("'", '"'))
    return "word", text[position:end], end


def _name_end(text: str, position: int) -> int:
    while position < len(text) and (text[position].isalnum() or text[position] == "_"):
        position += 1
    return position


def _string_end(text: str, position: int) -> int:
    quote = text[position]
    position += 1
    while position < len(text) and text[position] != quote:
        position += 2 if text[position] == "\\" and quote != "`" else 1
    if position >= len(text):
        raise TemplateError("template: :1: unterminated quoted string")
    return position + 1


def literal(text: str) -> object:
    """The value of a string, character or number literal."""
    if text[0] == "`":
        return text[1:-1]
    if text[0] in "\"'":
        value = _unescape(text[1:-1])
        if text[0] == "'":
            if len(value) != 1:
                raise TemplateError(f"template: :1: malformed character constant: {text}")
            return ord(value)
        return value
    try:
        return int(text, 0)
    except ValueError:
        pass
    try:
        return float(text)
    except ValueError:
        raise TemplateError(f'template: :1: bad number syntax: "{text}"') from None


def _unescape(text: str) -> str:
    pieces: list[str] = []
    position = 0
    while position < len(text):
        character = text[position]
        position += 1
        if character != "\\":
            pieces.append(character)
            continue
        escape = text[position]
        position += 1
        digits = {"x": 2, "u": 4, "U": 8}.get(escape, 0)
        try:
            pieces.append(chr(int(text[position : position + digits], 16)) if digits else _ESCAPES[escape])
        except (ValueError, KeyError, OverflowError):
            raise TemplateError("template: :1: invalid syntax in string") from None
        position += digits
    return "".join(pieces)


def truth(value: object) -> bool:
    """Whether `value` is true for Go's templates: zero, nil and everything empty are false."""
    return bool(value)


def pairs(value: object) -> list[tuple[object, object]]:
    """What `range` walks over; a map in the order of its keys."""
    if value is None:
        return []
    if isinstance(value, dict):
        return [(key, value[key]) for key in sorted(value)]
    if isinstance(value, (list, tuple)):
        return list(enumerate(value))
    if isinstance(value, int) and not isinstance(value, bool):
        return [(number, number) for number in range(value)]
    raise TemplateError(f"template: :1: range can't iterate over {printed(value)}")


def field(value: object, name: str) -> object:
    """`.name` of a document, or of an object with a method `template_field`."""
    get = getattr(value, "template_field", None)
    if get is not None:
        return get(name)
    if isinstance(value, dict):
        if name in value:
            return value[name]
        raise TemplateError(f'template: :1:2: executing "" at <.{name}>: map has no entry for key "{name}"')
    if value is None:
        raise TemplateError(f"template: :1: nil pointer evaluating interface {{}}.{name}")
    raise TemplateError(f"template: :1: can't evaluate field {name} in type {_type_name(value)}")


def call(name: str, function: Callable[..., Any], arguments: list[object]) -> object:
    """Call `function`; a wrong number or kind of arguments is an error of the template."""
    try:
        return function(*arguments)
    except TemplateError:
        raise
    except (TypeError, ValueError, LookupError, AttributeError) as error:
        raise TemplateError(f"template: :1: error calling {name}: {error}") from None


def _type_name(value: object) -> str:
    return {"str": "string", "list": "[]interface {}", "dict": "map[string]interface {}", "float": "float64"}.get(
        type(value).__name__, type(value).__name__
    )


def printed(value: object) -> str:
    """A value as Go's `%v` prints it."""
    if value is None:
        return "<nil>"
    if value is True:
        return "true"
    if value is False:
        return "false"
    if isinstance(value, float):
        return str(int(value)) if value.is_integer() and abs(value) < 1e21 else f"{value:g}"
    if isinstance(value, dict):
        return "map[" + " ".join(f"{printed(key)}:{printed(value[key])}" for key in sorted(value)) + "]"
    if isinstance(value, (list, tuple)):
        return "[" + " ".join(printed(item) for item in value) + "]"
    return str(value)


def _json(value: object) -> str:
    own = getattr(value, "template_json", None)
    if own is not None:
        return str(own())
    if isinstance(value, (list, tuple)) and any(hasattr(item, "template_json") for item in value):
        return f"[{','.join(_json(item) for item in value)}]"
    return render(value)


def _index(value: Any, *keys: Any) -> object:
    for key in keys:
        if isinstance(value, dict):
            # Go: a missing key gives the zero value of the map's type, and the maps that people look into are of strings.
            value = value.get(key, "")
        elif isinstance(value, (list, tuple, str)):
            if not isinstance(key, int) or not 0 <= key < len(value):
                raise TemplateError(f"template: :1: error calling index: index out of range: {printed(key)}")
            value = ord(value[key]) if isinstance(value, str) else value[key]
        else:
            raise TemplateError("template: :1: error calling index: index of untyped nil")
    return value


def _length(value: Any) -> int:
    if isinstance(value, str):
        return len(value.encode())
    if isinstance(value, (dict, list, tuple)):
        return len(value)
    raise TemplateError(f"template: :1: error calling len: len of {'nil pointer' if value is None else 'type ' + _type_name(value)}")


def _join(values: Any, separator: str) -> str:
    if values is None:
        return ""
    if isinstance(values, dict):
        return separator.join(sorted(printed(item) for item in values.values()))
    if not isinstance(values, (list, tuple)):
        raise TemplateError(f"template: :1: error calling join: expected slice, got {_type_name(values)}")
    return separator.join(printed(item) for item in values)


def _print(*values: Any) -> str:
    """Like `fmt.Sprint`: spaces only between values that are both no strings."""
    text = ""
    for index, value in enumerate(values):
        if index and not isinstance(value, str) and not isinstance(values[index - 1], str):
            text += " "
        text += printed(value)
    return text


def _printf(format_: str, *values: Any) -> str:
    """Like `fmt.Sprintf`, with the verbs that templates use: v s d q t x X f g e c and a width, flags and a precision."""
    pieces: list[str] = []
    arguments = list(values)
    position = 0
    while position < len(format_):
        start = format_.find("%", position)
        if start < 0:
            break
        pieces.append(format_[position:start])
        end = start + 1
        while end < len(format_) and format_[end] in "+-# 0123456789.":
            end += 1
        verb, flags = format_[end : end + 1], format_[start + 1 : end]
        position = end + 1
        if verb == "%":
            pieces.append("%")
        elif not verb:
            pieces.append("%!(NOVERB)")
        elif not arguments:
            pieces.append(f"%!{verb}(MISSING)")
        else:
            pieces.append(_formatted(verb, flags, arguments.pop(0)))
    pieces.append(format_[position:])
    extra = "".join(f"{'' if index == 0 else ', '}{_type_name(value)}={printed(value)}" for index, value in enumerate(arguments))
    return "".join(pieces) + (f"%!(EXTRA {extra})" if extra else "")


def _formatted(verb: str, flags: str, value: object) -> str:
    if verb in ("v", "s", "t"):
        width = flags.replace("#", "").replace("+", "")
        return f"%{width}s" % printed(value)
    if verb == "q":
        return _quote(printed(value))
    if verb in "dxXofeEgG" and isinstance(value, (int, float)) and not isinstance(value, bool):
        number = int(value) if verb in "dxXo" else value
        return f"%{flags}{verb}" % number
    if verb in "xX" and isinstance(value, str):
        digits = value.encode().hex()
        return digits.upper() if verb == "X" else digits
    if verb == "c" and isinstance(value, int):
        return chr(value)
    return f"%!{verb}({_type_name(value)}={printed(value)})"


def _quote(text: str) -> str:
    """Go's `strconv.Quote`."""
    names = {"\a": "\\a", "\b": "\\b", "\f": "\\f", "\n": "\\n", "\r": "\\r", "\t": "\\t", "\v": "\\v", '"': '\\"', "\\": "\\\\"}
    pieces: list[str] = []
    for character in text:
        code = ord(character)
        if character in names:
            pieces.append(names[character])
        elif character.isprintable():
            pieces.append(character)
        elif code < 0x80:
            pieces.append(f"\\x{code:02x}")
        else:
            pieces.append(f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}")
    return '"' + "".join(pieces) + '"'


quote = _quote


def _compare(name: str, test: Callable[[Any, Any], bool]) -> Callable[[Any, Any], bool]:
    def compare(left: Any, right: Any) -> bool:
        numbers = isinstance(left, (int, float)) and isinstance(right, (int, float))
        if not numbers and not (isinstance(left, str) and isinstance(right, str)):
            raise TemplateError(f"template: :1: error calling {name}: incompatible types for comparison")
        return test(left, right)

    return compare


def _equal(left: Any, *others: Any) -> bool:
    if not others:
        raise TemplateError("template: :1: error calling eq: missing argument for comparison")
    return any(left == other and isinstance(left, bool) == isinstance(other, bool) for other in others)


def _pad(text: Any, before: int, after: int) -> str:
    return " " * before + text + " " * after if text else ""


def _html(*values: Any) -> str:
    text = _print(*values)
    for character, entity in (("&", "&amp;"), ("'", "&#39;"), ("<", "&lt;"), (">", "&gt;"), ('"', "&#34;")):
        text = text.replace(character, entity)
    return text


def _slice(value: Any, *bounds: int) -> object:
    if any(not 0 <= bound <= len(value) for bound in bounds):
        raise TemplateError("template: :1: error calling slice: index out of range")
    return value[slice(*bounds)] if len(bounds) > 1 else value[bounds[0] if bounds else 0 :]


FUNCTIONS: dict[str, Callable[..., Any]] = {
    # text/template
    "and": lambda *values: next((value for value in values if not value), values[-1]),
    "or": lambda *values: next((value for value in values if value), values[-1]),
    "not": lambda value: not truth(value),
    "eq": _equal,
    "ne": lambda left, right: not _equal(left, right),
    "lt": _compare("lt", lambda left, right: left < right),
    "le": _compare("le", lambda left, right: left <= right),
    "gt": _compare("gt", lambda left, right: left > right),
    "ge": _compare("ge", lambda left, right: left >= right),
    "index": _index,
    "slice": _slice,
    "len": _length,
    "print": _print,
    "println": lambda *values: " ".join(printed(value) for value in values) + "\n",
    "printf": _printf,
    "html": _html,
    "js": lambda *values: _quote(_print(*values))[1:-1],
    # docker/cli templates
    "json": _json,
    "split": lambda text, separator: text.split(separator) if separator else list(text),
    "join": _join,
    "title": lambda text: text.title(),
    "lower": lambda text: text.lower(),
    "upper": lambda text: text.upper(),
    "pad": _pad,
    "truncate": lambda text, length: text[:length],
}

# For the header of a table: the column's name passes unchanged through functions that would change a value.
HEADER_FUNCTIONS: dict[str, Callable[..., Any]] = {
    "json": lambda text: text,
    "split": lambda text, _separator: text,
    "join": lambda text, _separator: text,
    "title": lambda text: text,
    "lower": lambda text: text,
    "upper": lambda text: text,
    "truncate": lambda text, _length: text,
}
