"""A text that is no JSON is refused in the words of Go's encoding/json; what Go takes is taken."""

from __future__ import annotations

import json

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from teul.errors import InvalidParameter
from teul.model.document import decode_json
from teul.model.json_faults import first_value

# Seen of dockerd, for bodies of POST /containers/create.
FAULTS = {
    b"": "EOF",
    b" \r\n": "EOF",
    b"{": "unexpected EOF",
    b"tru": "unexpected EOF",
    b'["a': "unexpected EOF",
    b'["\\u12': "unexpected EOF",
    b"-": "unexpected EOF",
    b"1.": "unexpected EOF",
    b"trux": "invalid character 'x' in literal true (expecting 'e')",
    b"[nul]": "invalid character ']' in literal null (expecting 'l')",
    b"x": "invalid character 'x' looking for beginning of value",
    b"\xff": "invalid character 'ÿ' looking for beginning of value",
    b"\x00": r"invalid character '\x00' looking for beginning of value",
    b"\x85": r"invalid character '\u0085' looking for beginning of value",
    b"\\": r"invalid character '\\' looking for beginning of value",
    b"['a']": r"invalid character '\'' looking for beginning of value",
    b"[1,]": "invalid character ']' looking for beginning of value",
    b'{"a":}': "invalid character '}' looking for beginning of value",
    b'{"a" 1}': "invalid character '1' after object key",
    b'{"a":1 "b"}': "invalid character '\"' after object key:value pair",
    b'{"a":1]': "invalid character ']' after object key:value pair",
    b'{"a":1,}': "invalid character '}' looking for beginning of object key string",
    b"{1:2}": "invalid character '1' looking for beginning of object key string",
    b"[[1] 2]": "invalid character '2' after array element",
    b"[01]": "invalid character '1' after array element",
    b'["a\nb"]': r"invalid character '\n' in string literal",
    b'["\\x"]': "invalid character 'x' in string escape code",
    b'["\\u12x4"]': r"invalid character 'x' in \u hexadecimal character escape",
    b"[-]": "invalid character ']' in numeric literal",
    b"[1.x]": "invalid character 'x' after decimal point in numeric literal",
    b"[1e+]": "invalid character ']' in exponent of numeric literal",
    b"[" * 10_001: "invalid character '[' exceeded max depth",
}


@pytest.mark.parametrize(("text", "words"), FAULTS.items())
def test_the_words_are_gos(text: bytes, words: str) -> None:
    assert first_value(text)[0] == words


def test_a_body_is_refused_in_these_words() -> None:
    for text, words in FAULTS.items():
        with pytest.raises(InvalidParameter) as caught:
            decode_json(text)
        told = "got EOF while reading request body" if words == "EOF" else words
        assert caught.value.message == f"invalid JSON: {told}"


@pytest.mark.parametrize("rest", [b" x", b"{}", b",", b" 1"])
def test_what_follows_is_no_part_of_the_value(rest: bytes) -> None:
    with pytest.raises(InvalidParameter, match=r"^unexpected content after JSON$"):
        decode_json(b'{"a":[1,{}]}' + rest)


@pytest.mark.parametrize("rest", [b"", b" \n", b"}", b"] x"])
def test_a_bracket_that_follows_is_let_pass(rest: bytes) -> None:
    assert decode_json(b'{"a":[1,{}]}' + rest) == {"a": [1, {}]}


def test_what_is_no_utf_8_becomes_a_replacement_character() -> None:
    assert decode_json(b'{"a":"x\xffy"}') == {"a": "x\N{REPLACEMENT CHARACTER}y"}


def test_of_a_long_text_only_the_beginning_is_looked_at() -> None:
    long = b'["' + b"x" * 1_000_000
    assert first_value(long + b'"') == ("", 0)
    with pytest.raises(InvalidParameter, match=r"^invalid JSON: "):
        decode_json(long + b'"')


_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=10,
)


@given(_VALUES, st.booleans())
def test_nothing_is_wrong_with_json(value: object, indented: bool) -> None:
    text = json.dumps(value, indent=1 if indented else None).encode()
    assert first_value(text) == ("", len(text))


@given(st.text('{}[]:,"\\ux0129-+.eE \ntrufalsn', max_size=12))
def test_what_is_wrong_is_found(text: str) -> None:
    """Both readers agree on what is JSON."""
    data = text.encode()
    words, end = first_value(data)
    try:
        msgspec.json.decode(data)
    except msgspec.DecodeError as error:
        assert words or data[end:].strip() or "out of range" in str(error) or b"\\u" in data
    else:
        assert (words, data[end:].strip()) == ("", b"")
