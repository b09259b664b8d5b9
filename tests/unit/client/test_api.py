"""Addresses, queries, connections that are kept or broken, and the pump between streams."""

from __future__ import annotations

import os
import socket
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from teul.client.address import Address, InvalidAddress, parse_address
from teul.client.api import Client, container_path, image_path, quote, render_query
from teul.client.attach import Detached, Pump, write_all
from teul.client.connection import HijackedStream, connection_failed, open_socket
from teul.client.errors import ApiError, ConnectionFailed
from teul.client.terminal import RawTerminal, is_terminal, window_size
from teul.wire.detach_keys import DetachKeys
from teul.wire.stdcopy import frame


@pytest.mark.parametrize(
    ("text", "expected", "authority"),
    [
        ("unix:///run/x.sock", "unix:///run/x.sock", "api.moby.localhost"),
        ("/run/x.sock", "unix:///run/x.sock", "api.moby.localhost"),
        ("tcp://h:1", "tcp://h:1", "h:1"),
        ("tcp://h", "tcp://h:2375", "h:2375"),
        ("http://h:80/", "tcp://h:80", "h:80"),
        ("h:5", "tcp://h:5", "h:5"),
        ("tcp://:5", "tcp://localhost:5", "localhost:5"),
        ("tcp://[::1]:5", "tcp://[::1]:5", "[::1]:5"),
        ("tcp://[::1]", "tcp://[::1]:2375", "[::1]:2375"),
    ],
)
def test_addresses(text: str, expected: str, authority: str) -> None:
    address = parse_address(text)
    assert (str(address), address.authority) == (expected, authority)
    assert address == parse_address(expected)
    assert hash(address) == hash(parse_address(expected))
    assert repr(address) == f"Address('{expected}')"
    assert address != expected


@pytest.mark.parametrize(
    "text",
    ["unix://x", "foo://x", "tcp://h:x", "tcp://h:0", "tcp://h:70000", "tcp://a:b:1", "tcp://[::1]x", "tcp://h/x:1", "ssh://h", "fd://"],
)
def test_addresses_that_are_refused(text: str) -> None:
    with pytest.raises(InvalidAddress):
        parse_address(text)


@given(st.text(max_size=30))
def test_any_text_is_an_address_or_refused(text: str) -> None:
    try:
        parse_address(text)
    except InvalidAddress:
        return


def test_queries_and_paths() -> None:
    assert render_query({}) == ""
    query: dict[str, Any] = {"a": True, "b": False, "c": None, "d": 0, "e": "x y&ü/", "f": ["1", "2"], "g": ""}
    assert render_query(query) == "?a=1&d=0&e=x%20y%26%C3%BC%2F&f=1&f=2&g="
    assert quote("a\udcff/b", "/") == "a%FF/b"
    assert container_path("a/../b c", "json") == "/containers/a%2F..%2Fb%20c/json"
    assert container_path("a") == "/containers/a"
    assert image_path("h:5/a/b@sha256:1", "json") == "/images/h:5/a/b@sha256:1/json"
    assert image_path("a?b") == "/images/a%3Fb"


class Peer:
    """Plays the engine's side of connections: each script gets one connection."""

    def __init__(self) -> None:
        self.scripts: list[Callable[[socket.socket], None]] = []
        self.opened = 0
        self.threads: list[threading.Thread] = []

    def open(self) -> socket.socket:
        ours, theirs = socket.socketpair()
        theirs.settimeout(10)
        script = self.scripts.pop(0)
        self.opened += 1

        def play() -> None:
            with theirs:
                script(theirs)

        thread = threading.Thread(target=play)
        thread.start()
        self.threads.append(thread)
        return ours


@pytest.fixture
def peer() -> Iterator[Peer]:
    made = Peer()
    yield made
    for thread in made.threads:
        thread.join(10)


@pytest.fixture
def client(peer: Peer) -> Iterator[Client]:
    made = Client(Address(path="/engine"), opener=peer.open)
    yield made
    made.close()


def answer(*responses: bytes) -> Callable[[socket.socket], None]:
    def script(connection: socket.socket) -> None:
        for response in responses:
            if not connection.recv(65536):
                return
            connection.sendall(response)

    return script


OK = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 2\r\n\r\n{}"


def test_a_connection_is_used_again(peer: Peer, client: Client) -> None:
    peer.scripts = [answer(OK, OK)]
    assert client.get("/a") == {}
    assert client.post("/b", body={"x": 1}) == {}
    assert peer.opened == 1


def test_a_connection_that_was_closed_while_idle_is_replaced(peer: Peer, client: Client) -> None:
    peer.scripts = [answer(OK), answer(OK)]
    assert client.get("/a") == {}
    peer.threads[0].join(10)
    assert client.get("/b") == {}
    assert peer.opened == 2


def test_a_connection_that_the_engine_will_close_is_not_used_again(peer: Peer, client: Client) -> None:
    peer.scripts = [answer(OK.replace(b"Content-Type", b"Connection: close\r\nContent-Type")), answer(OK)]
    client.get("/a")
    client.get("/b")
    assert peer.opened == 2


def test_an_engine_that_dies_before_it_answers_is_an_error(peer: Peer, client: Client) -> None:
    peer.scripts = [answer(b"")]
    with pytest.raises(ConnectionFailed, match="connection closed without a response"):
        client.get("/a")
    assert peer.opened == 1


def test_open_answers_have_their_own_connections(peer: Peer, client: Client) -> None:
    head = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
    peer.scripts = [answer(head + b"5\r\n{}\r\n{\r\n1\r\n}\r\n0\r\n\r\n"), answer(OK)]
    messages = client.messages("GET", "/events")
    assert next(messages) == {}
    assert client.get("/a") == {}
    assert list(messages) == [{}]
    assert peer.opened == 2


def test_a_stream_that_is_no_json_is_an_error(peer: Peer, client: Client) -> None:
    peer.scripts = [answer(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{\n")]
    with pytest.raises(ConnectionFailed, match="is not JSON"):
        list(client.messages("GET", "/events"))


def test_answers_that_are_no_json_are_nothing(peer: Peer, client: Client) -> None:
    peer.scripts = [answer(b"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: 2\r\n\r\nOK", b"HTTP/1.1 204 X\r\n\r\n")]
    assert client.get("/_ping") is None
    assert client.delete("/x") is None


def test_errors_carry_status_and_text(peer: Peer, client: Client) -> None:
    body = b'{"message":"No such container: x"}'
    peer.scripts = [
        answer(b"HTTP/1.1 404 X\r\nContent-Length: %d\r\n\r\n%b" % (len(body), body), b"HTTP/1.1 500 X\r\nContent-Length: 4\r\n\r\noops")
    ]
    with pytest.raises(ApiError) as caught:
        client.get("/a")
    assert (caught.value.status, caught.value.message, caught.value.is_not_found) == (404, "No such container: x", True)
    with pytest.raises(ApiError, match="oops"):
        client.get("/b")


def test_what_is_wrong_with_a_connection_is_told(tmp_path: Path) -> None:
    address = Address(path="/s")
    assert connection_failed(address, FileNotFoundError(2, "x")).refused
    assert not connection_failed(address, PermissionError(13, "x")).refused
    assert "permission denied" in connection_failed(address, PermissionError(13, "x")).message
    assert connection_failed(address, OSError(5, "I/O error")).message == "error during connect to unix:///s: I/O error"
    with pytest.raises(ConnectionFailed, match="Is it running"):
        Client(Address(path=str(tmp_path / "none"))).get("/x")


def test_tcp() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        open_socket(Address(host="127.0.0.1", port=port)).close()
        server.accept()[0].close()
    with pytest.raises(ConnectionRefusedError):
        open_socket(Address(host="127.0.0.1", port=port))


class Pipes:
    """Files for a pump's streams and a socket pair for its connection."""

    def __init__(self, directory: Path, leftover: bytes = b"") -> None:
        ours, self.theirs = socket.socketpair()
        self.theirs.settimeout(10)
        self.stream = HijackedStream(ours, leftover)
        self.out_path, self.err_path = directory / "out", directory / "err"
        self.out_fd = os.open(self.out_path, os.O_CREAT | os.O_WRONLY)
        self.err_fd = os.open(self.err_path, os.O_CREAT | os.O_WRONLY)
        self.stdin_read, self.stdin_write = os.pipe()

    def close(self) -> None:
        self.stream.close()
        self.theirs.close()
        for fd in (self.out_fd, self.err_fd, self.stdin_read, self.stdin_write):
            os.close(fd)


@pytest.fixture
def pipes(tmp_path: Path) -> Iterator[Pipes]:
    made = Pipes(tmp_path, frame(1, b"first "))
    yield made
    made.close()


def test_output_goes_where_its_frames_say_and_the_input_is_closed(pipes: Pipes) -> None:
    pipes.theirs.sendall(frame(1, b"out") + frame(2, b"err"))
    pipes.theirs.shutdown(socket.SHUT_WR)
    Pump(pipes.stream, stdout_fd=pipes.out_fd, stderr_fd=pipes.err_fd).run()
    assert pipes.out_path.read_bytes() == b"first out"
    assert pipes.err_path.read_bytes() == b"err"
    assert pipes.theirs.recv(1) == b""


def test_a_process_that_reads_nothing_does_not_stop_its_output(pipes: Pipes) -> None:
    """More input than the connection holds, and output only when it is full."""
    data = b"x" * 3_000_000
    feeder = threading.Thread(target=lambda: write_all(pipes.stdin_write, data))
    feeder.start()
    received = bytearray()

    def engine() -> None:
        pipes.theirs.sendall(frame(1, b"y" * 1_000_000))
        while len(received) < len(data):
            received.extend(pipes.theirs.recv(65536))
        pipes.theirs.shutdown(socket.SHUT_RDWR)

    thread = threading.Thread(target=engine)
    thread.start()
    Pump(pipes.stream, stdin_fd=pipes.stdin_read, stdout_fd=pipes.out_fd).run()
    thread.join(10)
    feeder.join(10)
    assert bytes(received) == data
    assert pipes.out_path.stat().st_size == 1_000_006


def test_output_after_the_end_of_the_input(pipes: Pipes) -> None:
    os.write(pipes.stdin_write, b"in")
    os.close(pipes.stdin_write)
    pipes.stdin_write = os.open(os.devnull, os.O_RDONLY)

    def engine() -> None:
        data = b""
        while piece := pipes.theirs.recv(100):
            data += piece
        pipes.theirs.sendall(frame(1, b"got " + data))
        pipes.theirs.shutdown(socket.SHUT_RDWR)

    thread = threading.Thread(target=engine)
    thread.start()
    Pump(pipes.stream, stdin_fd=pipes.stdin_read, stdout_fd=pipes.out_fd).run()
    thread.join(10)
    assert pipes.out_path.read_bytes() == b"first got in"


def test_an_engine_that_reads_no_more_still_gives_its_output(pipes: Pipes) -> None:
    pipes.theirs.shutdown(socket.SHUT_RD)
    os.write(pipes.stdin_write, b"lost")
    pipes.theirs.sendall(frame(1, b"kept"))
    threading.Timer(0.05, lambda: pipes.theirs.shutdown(socket.SHUT_WR)).start()
    Pump(pipes.stream, stdin_fd=pipes.stdin_read, stdout_fd=pipes.out_fd).run()
    assert pipes.out_path.read_bytes() == b"first kept"


def test_a_connection_that_is_reset_ends_the_stream(pipes: Pipes) -> None:
    os.write(pipes.stdin_write, b"unread")
    pump = Pump(pipes.stream, stdin_fd=pipes.stdin_read, stdout_fd=pipes.out_fd)
    threading.Timer(0.05, pipes.theirs.close).start()
    pump.run()
    assert pipes.out_path.read_bytes() == b"first "


def test_the_detach_keys_raise(pipes: Pipes) -> None:
    os.write(pipes.stdin_write, b"a\x10\x11b")
    pump = Pump(pipes.stream, stdin_fd=pipes.stdin_read, multiplexed=False, detach=DetachKeys())
    with pytest.raises(Detached):
        pump.run()


def test_a_watcher_can_end_the_pump(pipes: Pipes) -> None:
    read_fd, write_fd = os.pipe()
    os.write(write_fd, b"x")
    pump = Pump(pipes.stream)
    pump.watch(read_fd, lambda: True)
    pump.run()
    os.close(read_fd)
    os.close(write_fd)


def test_an_error_in_the_stream_is_raised(pipes: Pipes) -> None:
    pipes.theirs.sendall(frame(3, b"broken"))
    with pytest.raises(ConnectionFailed, match="error from daemon in stream: broken"):
        Pump(pipes.stream, stdout_fd=pipes.out_fd).run()


def test_writing_waits_where_the_descriptor_does_not_block() -> None:
    read_fd, write_fd = os.pipe()
    os.set_blocking(write_fd, False)
    data = os.urandom(500_000)
    received = bytearray()

    def read() -> None:
        while len(received) < len(data):
            received.extend(os.read(read_fd, 65536))

    thread = threading.Thread(target=read)
    thread.start()
    write_all(write_fd, data)
    thread.join(10)
    os.close(read_fd)
    os.close(write_fd)
    assert bytes(received) == data


def test_what_is_no_terminal_is_left_alone() -> None:
    read_fd, write_fd = os.pipe()
    assert not is_terminal(read_fd)
    assert window_size(read_fd) == (0, 0)
    with RawTerminal(read_fd) as terminal:
        terminal.restore()
    os.close(read_fd)
    os.close(write_fd)
