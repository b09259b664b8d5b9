"""What a search asks for, and what its filters let through, as dockerd has it (moby registry/search_test.go)."""

from __future__ import annotations

import pytest

from teul.errors import InvalidParameter
from teul.model.filter import Filters
from teul.registry.client.searches import SearchResult
from teul.registry.endpoints import INDEX_HOST
from teul.services.images.search import parse_search


@pytest.mark.parametrize(
    ("term", "host", "rest"),
    [
        ("busybox", "docker.io", "busybox"),
        ("", "docker.io", ""),
        ("library/busybox", "docker.io", "busybox"),
        ("someone/thing", "docker.io", "someone/thing"),
        ("docker.io/library/busybox", "docker.io", "busybox"),
        (f"{INDEX_HOST}/busybox", "docker.io", "busybox"),
        ("localhost/busybox", "localhost", "busybox"),
        ("127.0.0.1:5000/library/busybox", "127.0.0.1:5000", "library/busybox"),
        ("[::1]:5000/a/b", "[::1]:5000", "a/b"),
    ],
)
def test_a_term_names_its_registry(term: str, host: str, rest: str) -> None:
    search = parse_search(term, Filters(), limit=0)
    assert (search.host, search.term, search.limit) == (host, rest, 25)


@pytest.mark.parametrize(
    ("term", "filters", "limit", "message"),
    [
        ("a", {"type": ["custom"]}, 0, "invalid filter 'type'"),
        ("a", {"is-automated": ["invalid"]}, 0, "invalid filter 'is-automated=[invalid]'"),
        ("a", {"is-official": ["invalid"]}, 0, "invalid filter 'is-official=[invalid]'"),
        ("a", {"stars": ["1", "x"]}, 0, "invalid filter 'stars=x': strconv.Atoi: parsing \"x\": invalid syntax"),
        ("a", {}, 101, "limit 101 is outside the range of [1, 100]"),
        ("http://a.b/c", {}, 0, "invalid repository name: repository name (http://a.b/c) should not have a scheme"),
        ("-a.b/c", {}, 0, "invalid index name (-a.b). Cannot begin or end with a hyphen"),
        ("a.b-/c", {}, 0, "invalid index name (a.b-). Cannot begin or end with a hyphen"),
    ],
)
def test_what_cannot_be_asked(term: str, filters: dict[str, list[str]], limit: int, message: str) -> None:
    with pytest.raises(InvalidParameter) as caught:
        parse_search(term, Filters(filters), limit=limit)
    assert caught.value.message == message


@pytest.mark.parametrize(
    ("filters", "names"),
    [
        ({}, "official starred none"),
        ({"is-automated": ["true"]}, ""),
        ({"is-automated": ["false"]}, "official starred none"),
        ({"is-official": ["true"]}, "official"),
        ({"is-official": ["false"]}, "starred none"),
        ({"stars": ["0"]}, "official starred none"),
        ({"stars": ["-3"]}, "official starred none"),
        ({"stars": ["1"]}, "official starred"),
        ({"stars": ["1", "3"]}, "official"),
        ({"stars": ["1"], "is-official": ["0"]}, "starred"),
    ],
)
def test_filters(filters: dict[str, list[str]], names: str) -> None:
    results = [SearchResult(3, True, "official"), SearchResult(2, False, "starred"), SearchResult(0, False, "none")]
    search = parse_search("a", Filters(filters), limit=0)
    assert [result.name for result in results if search.accepts(result)] == names.split()
