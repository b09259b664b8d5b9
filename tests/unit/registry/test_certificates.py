"""`certs.d`, as far as files tell by their names; what certificates do is the contract tier's."""

from __future__ import annotations

import ssl
from pathlib import Path

import pytest

from teul.registry.certificates import files_stamp, load_client_context
from teul.registry.errors import InvalidRegistryConfig

HOST = "registry.example:5000"


def place(tmp_path: Path, *names: str) -> list[str]:
    directory = tmp_path / HOST
    directory.mkdir()
    for name in names:
        (directory / name).write_text("no certificate")
    return [str(tmp_path), str(tmp_path / "missing")]


@pytest.mark.parametrize(
    ("names", "message"),
    [
        (["client.cert"], "missing key client.key for client certificate client.cert. CA certificates must use the extension .crt"),
        (["client.key"], "missing client certificate client.cert for key client.key"),
        (["client.cert", "client.key"], "tls: failed to find any PEM data in certificate input"),
    ],
)
def test_half_a_pair_is_refused_in_dockers_words(tmp_path: Path, names: list[str], message: str) -> None:
    with pytest.raises(InvalidRegistryConfig) as caught:
        load_client_context(HOST, place(tmp_path, *names))
    assert caught.value.message == message


def test_an_authority_that_cannot_be_read_adds_none(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    directories = place(tmp_path, "ca.crt", "notes.txt")
    assert load_client_context(HOST, directories).verify_mode == ssl.CERT_REQUIRED
    assert f"no certificate can be read from {tmp_path / HOST / 'ca.crt'}" in caplog.text


def test_who_is_not_verified_is_shown_nothing(tmp_path: Path) -> None:
    context = load_client_context(HOST, place(tmp_path, "client.cert"), verify=False)
    assert (context.verify_mode, context.check_hostname) == (ssl.CERT_NONE, False)


def test_a_host_is_no_way_out_of_the_directory(tmp_path: Path) -> None:
    (tmp_path / "client.key").write_text("")
    (tmp_path / "certs.d").mkdir()
    for host in ("..", ".", "../", ""):
        assert load_client_context(host, [str(tmp_path / "certs.d")]).verify_mode == ssl.CERT_REQUIRED


def test_a_stamp_changes_with_the_files(tmp_path: Path) -> None:
    directories = place(tmp_path, "ca.crt")
    before = files_stamp(HOST, directories)
    assert before == files_stamp(HOST, directories) != ()
    (tmp_path / HOST / "ca.crt").write_text("another certificate")
    assert files_stamp(HOST, directories) != before
    assert files_stamp("other.example", directories) == ()
