"""The judges are judged: what the comparison lets pass and what it does not."""

from __future__ import annotations

from conformance.docker_cli.compare import compare
from conformance.docker_cli.differences import compare_json
from conformance.docker_cli.normalise import Normaliser
from conformance.docker_cli.player import Seen
from conformance.docker_cli.steps import Compare
from conformance.inside_differences import unexplained
from support import host
from support.images import Image, busybox_entries, file, pack
from support.needs import needs


def seen(exit_code: int = 0, stdout: object = "", stderr: str = "", title: str = "docker x") -> Seen:
    return Seen(title, exit_code, stdout, stderr)


def test_what_changes_from_run_to_run_is_taken_out() -> None:
    normaliser = Normaliser({"/tmp/root": "<base>"})
    text = f"{'a1' * 32} 0123456789ab 2026-11-23T20:00:00.123456789Z 3 seconds ago Up 2 minutes 172.17.0.2 02:42:ac:11:00:02 /tmp/root/x"
    assert normaliser.text(text) == "<id> <short-id> <time> <while> ago Up <while> <ip> <mac> <base>/x"


def test_what_does_not_change_is_left() -> None:
    text = "exit 127, 8.8.8.8, deadbeef, 100 MB, facade\n"
    assert Normaliser({}).text(text) == text


def test_redrawn_prompt_counts_once() -> None:
    assert Normaliser({}).text("/ # e\r/ # echo x\r\nx\r\n") == "echo x\nx\n"


def test_any_difference_in_text_or_exit_code_is_reported() -> None:
    assert compare(seen(), seen(), Compare.TEXT) == []
    assert compare(seen(1), seen(2), Compare.EXIT)
    assert compare(seen(stdout="a\n"), seen(stdout="b\n"), Compare.TEXT)
    assert compare(seen(stderr="a\n"), seen(stderr="b\n"), Compare.TEXT)
    assert compare(seen(stdout="a\nb\n"), seen(stdout="b\na\n"), Compare.TEXT)
    assert compare(seen(stdout="a\nb\n"), seen(stdout="b\na\n"), Compare.LINES) == []


def test_json_may_have_more_members_but_not_fewer_or_others() -> None:
    """Values, types and lengths of arrays count; a listed path does not."""
    assert compare_json({"A": 1}, {"A": 1, "B": 2}, "") == []
    assert compare_json({"A": 1}, {}, "")
    assert compare_json({"A": 1}, {"A": True}, "")
    assert compare_json({"A": [1]}, {"A": [1, 2]}, "")
    assert compare_json({"State": {"Pid": 1}}, {"State": {"Pid": 2}}, "") == []


def test_labels_must_all_be_there() -> None:
    assert compare(seen(stdout=" A: 1\n B: 2\n"), seen(stdout=" A: 3\n"), Compare.LABELS) == ["stdout: no line ' B:'"]


def test_line_that_only_one_container_shows_is_reported() -> None:
    assert unexplained("default", {"capabilities": ["a"]}, {"capabilities": ["a"]}) == []
    assert len(unexplained("default", {"capabilities": ["a"]}, {"capabilities": ["b"]})) == 2
    assert len(unexplained("default", {"seccomp": ["Seccomp:\t2"]}, {})) == 1


def test_same_image_has_the_same_bytes_every_time() -> None:
    def image() -> Image:
        return Image(("a:1",), (pack([file("x", "y")]),), {})

    assert image().docker_archive() == image().docker_archive()
    assert image().oci_archive("zstd") == image().oci_archive("zstd")


@needs("busybox")
def test_busybox_image_has_a_shell() -> None:
    assert any(entry.name == "bin/sh" for entry in busybox_entries())


@needs("root", "nft")
def test_host_state_tells_what_was_left_behind() -> None:
    """A difference names the area and the thing."""
    before = host.snapshot()
    after = host.HostState(**{**{name: getattr(before, name) for name in host.HostState.__slots__}, "links": before.links | {"veth-left"}})
    assert host.difference(before, after) == ["links: left behind: veth-left"]
    assert host.difference(after, before) == ["links: taken away: veth-left"]
