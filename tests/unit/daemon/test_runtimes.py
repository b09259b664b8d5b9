"""The options that are about OCI runtimes mean what dockerd's mean."""

from __future__ import annotations

import pytest

from teul.daemon.config import parse_arguments
from teul.errors import InvalidParameter
from teul.model.runtime import OciRuntime, Runtimes


def runtimes_of(*options: str) -> Runtimes:
    return parse_arguments(list(options), {}).runtimes


def test_an_engine_has_its_own_runtime_by_two_names() -> None:
    runtimes = runtimes_of()
    assert runtimes.default == "runc"
    assert runtimes.has("runc")
    assert runtimes.has("io.containerd.runc.v2")
    assert not runtimes.has("crun")
    assert runtimes.find("runc") is None


def test_added_runtimes_are_known_by_lower_case_names() -> None:
    runtimes = runtimes_of("--add-runtime", "Crun = /usr/bin/crun", "--add-runtime", "youki=youki", "--default-runtime", "crun")
    assert runtimes == Runtimes((OciRuntime("crun", "/usr/bin/crun"), OciRuntime("youki", "youki")), "crun")
    assert runtimes.find("youki") == OciRuntime("youki", "youki")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--add-runtime", "crun"), "invalid runtime argument: crun"),
        (("--add-runtime", "=crun"), "invalid runtime argument: =crun"),
        (("--add-runtime", "crun="), "invalid runtime argument: crun="),
        (("--add-runtime", "runc=/usr/sbin/runc"), "runtime name 'runc' is reserved"),
        (("--add-runtime", "a=b", "--add-runtime", "A=c"), "runtime 'a' was already defined"),
        (("--default-runtime", "x"), "specified default runtime 'x' does not exist"),
    ],
)
def test_what_means_nothing_is_refused_in_dockers_words(options: tuple[str, ...], message: str) -> None:
    with pytest.raises(InvalidParameter) as caught:
        runtimes_of(*options)
    assert caught.value.message == message
