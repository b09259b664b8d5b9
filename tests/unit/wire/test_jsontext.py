"""Our JSON agrees with `json`, and refuses what is none."""

from __future__ import annotations

import builtins
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from teul.wire import jsontext

VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=5), inner, max_size=4),
    max_leaves=20,
)


@given(VALUES)
def test_values_round_trip_and_agree_with_json(value: Any) -> None:
    assert json.loads(jsontext.encode(value)) == value
    assert jsontext.decode(jsontext.encode(value)) == value
    assert jsontext.decode(json.dumps(value)) == value


@given(VALUES)
def test_indented_text_is_what_go_prints(value: Any) -> None:
    text = jsontext.render(value, indent="    ")
    assert json.loads(text) == value
    assert text == json.dumps(value, indent=4, ensure_ascii=False)


@given(st.binary(max_size=60) | st.text(max_size=60))
def test_any_input_gives_a_value_or_our_own_error(data: bytes | str) -> None:
    try:
        value = jsontext.decode(data)
    except jsontext.InvalidJson:
        return
    assert json.loads(data) == value


@pytest.mark.parametrize("text", ["", "  ", "{", '{"a"', "[1,]", "{}x", "NaN", "-Infinity", '"\n"', "[" * 100_000, "nul", b"\xff"])
def test_what_is_no_json_is_refused(text: str | bytes) -> None:
    with pytest.raises(jsontext.InvalidJson):
        jsontext.decode(text)


def test_whitespace_around_a_value_is_allowed() -> None:
    assert jsontext.decode(b" \r\n\t[1] \n") == [1]


def test_keys_can_be_sorted_at_every_depth() -> None:
    assert jsontext.render({"b": [{"d": 1, "c": 2}], "a": ()}, sort_keys=True) == '{"a":[],"b":[{"c":2,"d":1}]}'


def test_bytes_that_are_no_unicode_become_question_marks() -> None:
    assert jsontext.encode("a\udcffb") == b'"a?b"'


def test_what_json_has_no_word_for_is_a_type_error() -> None:
    with pytest.raises(TypeError, match="set is not JSON"):
        jsontext.encode({"a": {1}})


def test_an_interpreter_without_the_c_scanner_uses_json(monkeypatch: pytest.MonkeyPatch) -> None:
    real = builtins.__import__

    def without(name: str, *arguments: Any, **options: Any) -> Any:
        if name == "_json":
            raise ImportError(name)
        return real(name, *arguments, **options)

    monkeypatch.setattr(builtins, "__import__", without)
    scan, encode_string = jsontext._load()
    assert scan('{"a": [1]}', 0) == ({"a": [1]}, 10)
    assert encode_string("é\n") == '"é\\n"'


def test_the_scanner_that_raises_nothing_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    """The C scanner finds its exception class only where `json.decoder` has been imported."""

    def scan(_text: str, _start: int) -> tuple[object, int]:
        raise SystemError("returned NULL without setting an exception")

    monkeypatch.setattr(jsontext, "_scan", scan)
    with pytest.raises(jsontext.InvalidJson, match="malformed"):
        jsontext.decode("{")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ('{"a" :1.50e+01,"b":[ ] , "c":{ }}', '{\n\t"a": 1.50e+01,\n\t"b": [],\n\t"c": {}\n}'),
        ('[1,[true,{"x":null}]]', '[\n\t1,\n\t[\n\t\ttrue,\n\t\t{\n\t\t\t"x": null\n\t\t}\n\t]\n]'),
        (r'{"quoted \" , {": "\\"}', "{\n\t" + r'"quoted \" , {": "\\"' + "\n}"),
        ('"é\\u00e9"', '"é\\u00e9"'),
        (" 7 ", "7"),
    ],
)
def test_other_peoples_json_is_laid_out_and_nothing_else(text: str, expected: str) -> None:
    assert jsontext.reindent(text, "\t") == expected
