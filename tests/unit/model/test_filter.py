"""Docker's filters parameter."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from teul.model.filter import Filters, InvalidFilter, parse_filters


def test_both_spellings_mean_the_same() -> None:
    assert parse_filters('{"label":{"a=b":true,"c":true}}') == parse_filters('{"label":["a=b","c"]}')
    assert parse_filters('{"label":["a=b","c"]}').get("label") == ("a=b", "c")


@pytest.mark.parametrize("text", ["", "{}", "null"])
def test_nothing_asked_is_everything(text: str) -> None:
    filters = parse_filters(text)
    assert not filters
    assert filters.exact("name", "anything")


@pytest.mark.parametrize("text", ["[]", "{", '{"a":1}', '{"a":"b"}', '{"a":{"b":1}}', "x"])
def test_anything_else_is_refused(text: str) -> None:
    with pytest.raises(InvalidFilter, match=r"^invalid filter$"):
        parse_filters(text)


@given(st.text(max_size=40))
def test_any_text_gives_filters_or_our_error(text: str) -> None:
    try:
        parse_filters(text)
    except InvalidFilter:
        return


def test_an_unknown_key_is_named() -> None:
    with pytest.raises(InvalidFilter) as caught:
        Filters({"nosuch": ["x"]}).validate({"name"})
    assert caught.value.message == "invalid filter 'nosuch'"


def test_a_value_may_be_a_pattern_a_beginning_or_the_whole() -> None:
    filters = Filters({"name": ["^we.$", "("]})
    assert filters.matches("name", "web")
    assert not filters.matches("name", "weird")
    assert Filters({"id": ["abc"]}).fuzzy("id", "abcdef")
    assert not Filters({"id": ["bcd"]}).fuzzy("id", "abcdef")
    assert not Filters({"id": ["abc"]}).exact("id", "abcdef")


def test_all_labels_must_be_there() -> None:
    labels = {"tier": "web", "env": "prod"}
    assert Filters({"label": ["tier", "env=prod"]}).pairs("label", labels)
    assert not Filters({"label": ["tier", "env=test"]}).pairs("label", labels)
    assert not Filters({"label": ["tier"]}).pairs("label", None)


@pytest.mark.parametrize(("values", "expected"), [(["1"], True), (["true"], True), (["0"], False), (["false"], False)])
def test_yes_and_no(values: list[str], expected: bool) -> None:
    assert Filters({"dangling": values}).boolean("dangling", default=not expected) is expected


@pytest.mark.parametrize("values", [["maybe"], ["1", "0"]])
def test_neither_yes_nor_no(values: list[str]) -> None:
    with pytest.raises(InvalidFilter) as caught:
        Filters({"dangling": values}).boolean("dangling", default=True)
    assert caught.value.message == f"invalid filter 'dangling=[{' '.join(values)}]'"
