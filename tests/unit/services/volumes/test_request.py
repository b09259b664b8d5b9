"""What is asked of volumes: names, options and filters, and Docker's words where they are wrong."""

from __future__ import annotations

import pytest

from teul.errors import InvalidParameter
from teul.model.filter import Filters
from teul.model.volume import ANONYMOUS_LABEL, Volume
from teul.services.volumes.filters import list_filter, prune_filter
from teul.services.volumes.request import check_name, check_options


@pytest.mark.parametrize("name", ["ab", "A.b-c_1", "0" * 255])
def test_names(name: str) -> None:
    check_name(name)


@pytest.mark.parametrize(
    ("name", "problem"),
    [
        ("a", "create a: volume name is too short, names should be at least two alphanumeric characters"),
        (
            "a/b",
            (
                'create a/b: "a/b" includes invalid characters for a local volume name, only "[a-zA-Z0-9][a-zA-Z0-9_.-]" are allowed. '
                "If you intended to pass a host directory, use absolute path"
            ),
        ),
        ("x" * 256, f"create {'x' * 256}: volume name is too long, it should be less than 256 characters"),
    ],
)
def test_wrong_names(name: str, problem: str) -> None:
    with pytest.raises(InvalidParameter) as caught:
        check_name(name)
    assert caught.value.message == problem


@pytest.mark.parametrize("name", ["..", ".hidden", "-x", "", "a\nb", "a b", "ä1"])
def test_names_that_are_no_directories(name: str) -> None:
    with pytest.raises(InvalidParameter):
        check_name(name)


@pytest.mark.parametrize("options", [None, {}, {"type": "tmpfs", "device": "tmpfs", "o": "size=1m"}, {"size": "0"}])
def test_options(options: dict[str, str] | None) -> None:
    check_options("v", options)


@pytest.mark.parametrize(
    ("options", "problem"),
    [
        ({"odd": "1"}, 'invalid option: "odd"'),
        ({"device": "/x"}, 'missing required option: "type"'),
        ({"type": "none"}, 'missing required option: "device"'),
        ({"o": "bind"}, 'missing required option: "device"'),
        ({"size": "10m"}, "quota size requested but no quota support"),
        ({"size": "x"}, "invalid size: 'x'"),
    ],
)
def test_wrong_options(options: dict[str, str], problem: str) -> None:
    with pytest.raises(InvalidParameter) as caught:
        check_options("v", options)
    assert caught.value.message == f"create v: {problem}"


NAMED = Volume(name="named", created_at_ns=0, labels={"a": "b"})
NAMELESS = Volume(name="f" * 64, created_at_ns=0, labels={ANONYMOUS_LABEL: ""})
MOUNTED = Volume(name="mounted", created_at_ns=0, options={"type": "nfs", "device": ":/x", "o": "addr=192.0.2.1"})
ALL = (NAMED, NAMELESS, MOUNTED)


@pytest.mark.parametrize(
    ("filters", "found"),
    [
        ({}, ALL),
        ({"name": ["name"]}, [NAMED]),
        ({"driver": ["local"]}, ALL),
        ({"driver": ["other"]}, []),
        ({"label": ["a"]}, [NAMED]),
        ({"label": ["a=c"]}, []),
        ({"dangling": ["true"]}, [NAMELESS, MOUNTED]),
        ({"dangling": ["0"]}, [NAMED]),
    ],
)
def test_what_is_listed(filters: dict[str, list[str]], found: list[Volume]) -> None:
    is_wanted = list_filter(Filters(filters), lambda name: name == "named")
    assert [volume for volume in ALL if is_wanted(volume)] == list(found)


@pytest.mark.parametrize(
    ("filters", "found"),
    [
        ({}, [NAMELESS]),
        ({"all": ["true"]}, [NAMED, NAMELESS]),
        ({"all": ["0"]}, [NAMELESS]),
        ({"all": ["1"], "label": ["a"]}, [NAMED]),
        ({"all": ["1"], "label!": ["a=b"]}, [NAMELESS]),
    ],
)
def test_what_is_pruned(filters: dict[str, list[str]], found: list[Volume]) -> None:
    is_wanted = prune_filter(Filters(filters))
    assert [volume for volume in ALL if is_wanted(volume)] == found


@pytest.mark.parametrize(
    ("filters", "problem"),
    [
        ({"all": ["x"]}, "invalid filter 'all': strconv.ParseBool: parsing \"x\": invalid syntax"),
        ({"all": ["1", "0"]}, "invalid filter 'all=[1 0]': only one value is expected"),
        ({"until": ["1h"]}, "invalid filter 'until'"),
    ],
)
def test_wrong_filters(filters: dict[str, list[str]], problem: str) -> None:
    with pytest.raises(InvalidParameter) as caught:
        prune_filter(Filters(filters))
    assert caught.value.message == problem
