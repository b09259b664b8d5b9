"""`KEY=value` as docker takes it: `-e` and `--env-file`, `-l` and `--label-file`, `--log-opt`, filters."""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping


def parse_environment(values: list[str], files: list[str], environment: Mapping[str, str]) -> list[str]:
    """The container's variables: those of the files first. A name without a value takes the caller's value; a name in a file is left out
    when the caller has no value. Raises `ValueError`."""
    variables: list[str] = []
    for path in files:
        variables += _read_pairs(path, environment.get, "--env-file")
    for value in values:
        name, equals, _ = value.partition("=")
        if not name:
            raise ValueError(f"invalid environment variable: {value}")
        # docker: a name that nobody knows is sent as it is, and takes the variable out of the image's environment.
        variables.append(f"{name}={environment[name]}" if not equals and name in environment else value)
    return variables


def parse_labels(values: list[str], files: list[str]) -> dict[str, str]:
    """Labels, those of the files first. Raises `ValueError`."""
    pairs: list[str] = []
    for path in files:
        pairs += _read_pairs(path, lambda _name: None, "--label-file")
    for value in values:
        name = value.partition("=")[0].lstrip(" \t")
        if not name:
            raise ValueError(f"invalid label '{value}': empty name")
        if " " in name or "\t" in name:
            raise ValueError(f"label '{name}' contains whitespaces")
        pairs.append(value)
    return to_dictionary(pairs)


def to_dictionary(pairs: Iterable[str]) -> dict[str, str]:
    """`["a=b", "c"]` as `{"a": "b", "c": ""}`; the last of equal names counts."""
    split = (pair.partition("=") for pair in pairs)
    return {name: value for name, _, value in split}


def to_filters(values: list[str]) -> str | None:
    """The `filters` parameter of a list request: JSON of names to values, or None without any."""
    if not values:
        return None
    from teul.wire.jsontext import encode

    filters: dict[str, dict[str, bool]] = {}
    for value in values:
        name, _, text = value.partition("=")
        filters.setdefault(name.strip().lower(), {})[text.strip()] = True
    return encode(filters).decode()


def _read_pairs(path: str, lookup: Callable[[str], str | None], option: str) -> list[str]:
    try:
        with open(path, "rb") as file:
            lines = file.read().removeprefix(b"\xef\xbb\xbf").split(b"\n")
    except OSError as error:
        reason = error.strerror.lower() if error.strerror else str(error)
        raise ValueError(f"{option}: open {path}: {reason}") from None
    pairs: list[str] = []
    for number, raw in enumerate(lines, 1):
        try:
            line = raw.removesuffix(b"\r").decode("utf-8").lstrip()
        except UnicodeDecodeError:
            raise ValueError(f"{option}: invalid env file ({path}): invalid utf8 bytes at line {number}") from None
        if not line or line.startswith("#"):
            continue
        name, equals, _ = line.partition("=")
        if not name:
            raise ValueError(f"{option}: invalid env file ({path}): no variable name on line '{line}'")
        if " " in name or "\t" in name:
            raise ValueError(f"{option}: invalid env file ({path}): variable '{name}' contains whitespaces")
        value = line if equals else _looked_up(name, lookup(name))
        if value is not None:
            pairs.append(value)
    return pairs


def _looked_up(name: str, value: str | None) -> str | None:
    return None if value is None else f"{name}={value}"
