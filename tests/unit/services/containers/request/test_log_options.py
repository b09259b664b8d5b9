"""Log options mean what they mean to Docker's json-file driver."""

from __future__ import annotations

import pytest

from teul.errors import InvalidParameter
from teul.model.config import ContainerConfig
from teul.model.host_config import LogConfig
from teul.services.containers.request.log_options import check_log_config, log_attributes, parse_log_options, parse_size


@pytest.mark.parametrize(
    ("text", "size_bytes"),
    [
        ("10", 10),
        ("10b", 10),
        ("10k", 10_000),
        ("10K", 10_000),
        ("10kb", 10_000),
        ("10KiB", 10_000),
        ("1.5m", 1_500_000),
        ("2 g", 2 * 10**9),
    ],
)
def test_sizes_count_in_thousands(text: str, size_bytes: int) -> None:
    assert parse_size(text) == size_bytes


@pytest.mark.parametrize("text", ["", "m", "-1", "1x", "1mm", "1m\n", "٣"])
def test_wrong_sizes(text: str) -> None:
    with pytest.raises(InvalidParameter, match=r"^invalid size: "):
        parse_size(text)


def test_what_is_not_said_is_none() -> None:
    options = parse_log_options({})
    assert (options.max_bytes, options.max_files) == (None, None)
    options = parse_log_options({"max-size": "1m", "max-file": "+3"})
    assert (options.max_bytes, options.max_files) == (1_000_000, 3)


@pytest.mark.parametrize("text", ["", "three", "1.5", "--1", "٣"])
def test_a_file_count_is_a_number(text: str) -> None:
    with pytest.raises(InvalidParameter, match=r"^invalid max-file: "):
        parse_log_options({"max-file": text})


def test_known_drivers() -> None:
    check_log_config(LogConfig())
    check_log_config(LogConfig(type="none", config={"anything": "goes"}))
    check_log_config(LogConfig(config={"mode": "non-blocking", "max-buffer-size": "4m", "compress": "false", "tag": ""}))


def test_attributes_are_labels_and_variables() -> None:
    config = ContainerConfig(labels={"a": "1", "b": "2"}, env=["X=y=z", "N"])
    assert log_attributes({"labels": "a,missing", "env": "X,,absent"}, config) == {"a": "1", "X": "y=z"}
    assert log_attributes({}, config) == {}
