"""Log options mean what they mean to Docker's drivers."""

from __future__ import annotations

import pytest

from teul.errors import InvalidParameter
from teul.model.config import ContainerConfig
from teul.model.host_config import LogConfig
from teul.services.containers.request.log_drivers import check_log_config, with_defaults
from teul.services.containers.request.log_options import FileLimits, json_file_limits, local_limits, log_attributes, parse_size


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


@pytest.mark.parametrize(
    ("options", "limits"),
    [
        ({}, (20_000_000, 5, False)),
        ({"max-size": "1m"}, (1_000_000, 1, False)),
        ({"max-file": "3"}, (20_000_000, 3, False)),
        ({"max-size": "1m", "max-file": "+3", "compress": "T"}, (1_000_000, 3, True)),
    ],
)
def test_limits_of_a_json_file(options: dict[str, str], limits: tuple[int, int, bool]) -> None:
    """docker: with a size alone there is one file. Without one there is a limit all the same, unlike there."""
    assert json_file_limits(options) == FileLimits(max_bytes=limits[0], max_files=limits[1], compress=limits[2])


@pytest.mark.parametrize(
    ("options", "prefix", "limits"),
    [
        ({}, "", (20 << 20, 5, True)),
        ({"max-size": "1m", "max-file": "2", "compress": "false"}, "", (1_000_000, 2, False)),
        ({"max-size": "0", "max-file": "0", "compress": "0"}, "", (1, 1, False)),
        ({"max-size": "1m", "cache-max-size": "2m"}, "cache-", (2_000_000, 5, True)),
    ],
)
def test_limits_of_a_local_log(options: dict[str, str], prefix: str, limits: tuple[int, int, bool]) -> None:
    assert local_limits(options, prefix) == FileLimits(max_bytes=limits[0], max_files=limits[1], compress=limits[2])


@pytest.mark.parametrize("text", ["", "three", "1.5", "--1", "٣"])
def test_a_file_count_is_a_number(text: str) -> None:
    with pytest.raises(InvalidParameter, match=r"^invalid max-file: "):
        json_file_limits({"max-file": text})


def test_known_drivers() -> None:
    check_log_config(LogConfig())
    check_log_config(LogConfig(type="none", config={"anything": "goes"}))
    check_log_config(LogConfig(config={"mode": "non-blocking", "max-buffer-size": "4m", "compress": "false", "tag": ""}))
    check_log_config(LogConfig(type="local", config={"max-size": "10m", "labels-regex": "^a", "tag": "{{.Name}}"}))


@pytest.mark.parametrize(
    ("driver", "options", "text"),
    [
        ("json-file", {"compress": "true"}, "compress cannot be true when max-file is less than 2 or max-size is not set"),
        ("json-file", {"compress": "maybe"}, 'strconv.ParseBool: parsing "maybe": invalid syntax'),
        ("json-file", {"labels-regex": "("}, "error parsing regexp: missing ), unterminated subpattern at position 0: `(`"),
        ("json-file", {"tag": "{{.ID"}, "template: :1: unclosed action"),
        ("json-file", {"cache-disabled": "maybe"}, "invalid value for option cache-disabled: maybe"),
        ("json-file", {"mode": "non-blocking", "max-buffer-size": "x"}, "error parsing option max-buffer-size: invalid size: 'x'"),
        ("local", {"colour": "red"}, "unknown log opt 'colour' for log driver local"),
        ("local", {"max-size": "x"}, "invalid value for max-size: x: invalid size: 'x'"),
        ("local", {"max-size": "-1"}, "max-size must not be negative"),
        ("local", {"max-file": "x"}, 'invalid value for max-file: x: strconv.Atoi: parsing "x": invalid syntax'),
        ("local", {"max-file": "-1"}, "max-file must not be negative"),
        ("local", {"max-file": "1"}, "compression cannot be enabled when max file count is 1"),
        ("local", {"compress": "x"}, 'invalid boolean value for compress: strconv.ParseBool: parsing "x": invalid syntax'),
        ("gelf", {}, 'error looking up logging plugin gelf: plugin "gelf" not found'),
    ],
)
def test_what_is_refused(driver: str, options: dict[str, str], text: str) -> None:
    with pytest.raises(InvalidParameter) as raised:
        check_log_config(LogConfig(type=driver, config=options))
    assert raised.value.message == text


def test_the_engines_defaults_count_for_its_driver_and_its_cache_for_all() -> None:
    """docker: mergeAndVerifyLogConfig."""
    defaults = LogConfig(type="local", config={"max-size": "1m", "cache-max-size": "2m"})
    assert with_defaults(LogConfig(), defaults) == LogConfig(type="local", config={"max-size": "1m", "cache-max-size": "2m"})
    assert with_defaults(LogConfig(config={"max-size": "3m"}), defaults).config == {"max-size": "3m", "cache-max-size": "2m"}
    assert with_defaults(LogConfig(type="syslog"), defaults) == LogConfig(type="syslog", config={"cache-max-size": "2m"})


def test_attributes_are_labels_and_variables() -> None:
    config = ContainerConfig(labels={"a": "1", "b": "2", "ab": "3"}, env=["X=y=z", "N", "YX=1"])
    assert log_attributes({"labels": "a,missing", "env": "X,,absent,N"}, config) == {"a": "1", "X": "y=z"}
    assert log_attributes({"labels-regex": "^.$", "env-regex": "X$"}, config) == {"a": "1", "b": "2", "X": "y=z", "YX": "1"}
    assert log_attributes({}, config) == {}
