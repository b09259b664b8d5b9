"""The engine's command line: where it listens, and where it refuses to."""

from __future__ import annotations

import pytest

from teul.daemon.config import TlsFiles, parse_arguments
from teul.errors import InvalidParameter
from teul.model.host_config import LogConfig

ENVIRONMENT = {"TEUL_ROOT": "/r", "TEUL_RUN_ROOT": "/run/r", "HOME": "/home/x"}
VERIFIED = ("--tlsverify",)


def hosts(*arguments: str) -> tuple[str, ...]:
    return parse_arguments([*arguments], ENVIRONMENT).hosts


@pytest.mark.parametrize(
    ("host", "options", "listens_at"),
    [
        ("unix:///x", (), "unix:///x"),
        ("tcp://127.0.0.1:5", (), "tcp://127.0.0.1:5"),
        ("tcp://127.1.2.3:5/", (), "tcp://127.1.2.3:5"),
        ("tcp://[::1]:5", (), "tcp://[::1]:5"),
        ("tcp://localhost", (), "tcp://localhost:2375"),
        ("tcp://:9", (), "tcp://localhost:9"),
        ("tcp://localhost", VERIFIED, "tcp://localhost:2376"),
        ("tcp://[::1]", ("--tls",), "tcp://[::1]:2376"),
        ("tcp://0.0.0.0:5", VERIFIED, "tcp://0.0.0.0:5"),
        ("tcp://[::]:5", VERIFIED, "tcp://[::]:5"),
        ("tcp://build.example:5", VERIFIED, "tcp://build.example:5"),
        ("tcp://0.0.0.0:5", ("--insecure-tcp",), "tcp://0.0.0.0:5"),
        ("tcp://0.0.0.0", ("--insecure-tcp", "--tls"), "tcp://0.0.0.0:2376"),
    ],
)
def test_addresses(host: str, options: tuple[str, ...], listens_at: str) -> None:
    assert hosts("-H", host, *options) == (listens_at,)


@pytest.mark.parametrize("options", [(), ("--tls",)])
@pytest.mark.parametrize(
    "host", ["tcp://0.0.0.0:5", "tcp://[::]:5", "tcp://10.1.1.1:5", "tcp://build.example:5", "tcp://localhost.example:5"]
)
def test_beyond_loopback_clients_show_a_certificate(host: str, options: tuple[str, ...]) -> None:
    """Whoever reaches the engine is root."""
    with pytest.raises(InvalidParameter, match="without --tlsverify the engine listens on loopback only"):
        hosts("-H", host, *options)


@pytest.mark.parametrize(
    "host", ["x", "tcp:127.0.0.1:5", "http://127.0.0.1", "unix://x", "tcp://127.0.0.1:x", "tcp://127.0.0.1:0", "tcp://127.0.0.1:70000",
             "tcp://[::1", "tcp://[127.0.0.1]:5", "tcp://::1:5", "tcp://a/b:5"]
)  # fmt: skip
def test_what_is_no_address(host: str) -> None:
    with pytest.raises(InvalidParameter, match="is not an address to listen on"):
        hosts("-H", host, *VERIFIED)


def test_the_default_is_a_socket_and_no_tls() -> None:
    config = parse_arguments([], ENVIRONMENT)
    assert (config.hosts, config.tls) == (("unix:///run/r/docker.sock",), None)


def test_certificates_are_where_docker_looks() -> None:
    assert parse_arguments(["--tls"], ENVIRONMENT).tls == TlsFiles(
        ca="/home/x/.docker/ca.pem", cert="/home/x/.docker/cert.pem", key="/home/x/.docker/key.pem", verify=False
    )
    arguments = ["--tlsverify", "--tlscacert", "a", "--tlscert", "b"]
    assert parse_arguments(arguments, {**ENVIRONMENT, "DOCKER_CERT_PATH": "/c"}).tls == TlsFiles(
        ca="a", cert="b", key="/c/key.pem", verify=True
    )


@pytest.mark.parametrize(
    ("options", "keeps"), [((), True), (("--compressed-layers", "keep"), True), (("--compressed-layers", "drop"), False)]
)
def test_compressed_layers_are_kept_unless_told_otherwise(options: tuple[str, ...], keeps: bool) -> None:
    assert parse_arguments([*options], ENVIRONMENT).keeps_compressed is keeps


@pytest.mark.parametrize(("options", "mode"), [((), "translate"), (("--published-ports", "relay"), "relay")])
def test_published_ports_are_translated_unless_told_otherwise(options: tuple[str, ...], mode: str) -> None:
    assert parse_arguments([*options], ENVIRONMENT).published_ports == mode


def test_logs_are_json_files_unless_told_otherwise() -> None:
    assert parse_arguments([], ENVIRONMENT).log_defaults == LogConfig(type="json-file", config={})
    options = ["--log-driver", "local", "--log-opt", "max-size=1m", "--log-opt", "tag=a=b"]
    assert parse_arguments(options, ENVIRONMENT).log_defaults == LogConfig(type="local", config={"max-size": "1m", "tag": "a=b"})


@pytest.mark.parametrize(
    ("driver", "option", "text"),
    [
        ("json-file", "colour=red", "failed to set log opts: unknown log opt 'colour' for json-file log driver"),
        ("nosuch", "a=b", 'failed to set log opts: error looking up logging plugin nosuch: plugin "nosuch" not found'),
    ],
)
def test_default_options_that_mean_nothing_are_refused(driver: str, option: str, text: str) -> None:
    """docker: a driver that there is not, without options, is refused when a container is made."""
    assert parse_arguments(["--log-driver", driver], ENVIRONMENT).log_defaults.type == driver
    with pytest.raises(InvalidParameter) as raised:
        parse_arguments(["--log-driver", driver, "--log-opt", option], ENVIRONMENT)
    assert raised.value.message == text


@pytest.mark.parametrize(("options", "kept"), [((), 1), (("--keep-generations", "5"), 5), (("--keep-generations", "0"), 0)])
def test_one_former_generation_is_kept_unless_told_otherwise(options: tuple[str, ...], kept: int) -> None:
    assert parse_arguments([*options], ENVIRONMENT).keep_generations == kept


@pytest.mark.parametrize(("options", "reserve_bytes"), [((), 32 << 20), (("--disk-reserve", "1g"), 1 << 30), (("--disk-reserve", "0"), 0)])
def test_some_of_the_disk_is_kept_unless_told_otherwise(options: tuple[str, ...], reserve_bytes: int) -> None:
    assert parse_arguments([*options], ENVIRONMENT).disk_reserve_bytes == reserve_bytes


@pytest.mark.parametrize(
    "options", [("--keep-generations", "-1"), ("--keep-generations", "many"), ("--disk-reserve", "-1"), ("--disk-reserve", "x")]
)
def test_what_is_no_number_is_refused(options: tuple[str, ...], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        parse_arguments([*options], ENVIRONMENT)
    assert ended.value.code == 2
    assert options[0] in capsys.readouterr().err
