"""HTTP/1.1 from the client's side: rendering, framing, upgrades, and refusal of everything that cannot be framed."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from teul.wire.http1 import (
    LAST_CHUNK,
    MAX_CHUNK_LINE_BYTES,
    MAX_HEAD_BYTES,
    ProtocolError,
    ResponseParser,
    render_chunk,
    render_request,
)


def parse(*pieces: bytes, method: str = "GET", upgrade: bool = False, eof: bool = False) -> ResponseParser:
    parser = ResponseParser(method, upgrade=upgrade)
    for piece in pieces:
        parser.feed(piece)
    if eof:
        parser.feed_eof()
    return parser


def test_a_request_is_a_line_headers_and_an_empty_line() -> None:
    assert render_request("GET", "/a?b=c", [("Host", "x"), ("A", "b")]) == b"GET /a?b=c HTTP/1.1\r\nHost: x\r\nA: b\r\n\r\n"


@pytest.mark.parametrize(
    ("target", "header"),
    [("/a b", "x"), ("/a\r\nX: y", "x"), ("/a", "x\r\nY: z"), ("/a", "x\ny"), ("/a", "x\0")],
)
def test_nothing_breaks_out_of_its_line(target: str, header: str) -> None:
    with pytest.raises(ValueError, match="not allowed"):
        render_request("GET", target, [("A", header)])


def test_chunks_carry_their_size_and_empty_ones_do_not_end_the_body() -> None:
    assert render_chunk(b"x" * 26) == b"1a\r\n" + b"x" * 26 + b"\r\n"
    assert render_chunk(b"") == b""
    assert LAST_CHUNK == b"0\r\n\r\n"


def test_a_body_of_known_length() -> None:
    parser = parse(b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nX-A: 1\r\nx-a: 2\r\n\r\nhel")
    assert parser.head_complete
    assert not parser.complete
    assert not parser.keep_alive
    assert parser.leftover == b""
    assert parser.take() == b"hel"
    parser.feed(b"loNEXT")
    assert (parser.complete, parser.status, parser.reason, parser.headers["x-a"]) == (True, 200, "OK", "1, 2")
    assert parser.take() == b"lo"
    assert parser.take() == b""
    assert parser.leftover == b"NEXT"
    assert parser.keep_alive


def test_a_chunked_body_with_extensions_and_trailers() -> None:
    parser = parse(
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3;name=v\r\nabc\r\n", b"0A\r\n0123456789\r\n0\r\nTrailer: x\r\n\r\nrest"
    )
    assert parser.complete
    assert parser.take() == b"abc0123456789"
    assert parser.leftover == b"rest"


def test_a_body_without_framing_ends_with_the_connection() -> None:
    parser = parse(b"HTTP/1.0 200 OK\r\n\r\nabc", b"def")
    assert not parser.complete
    parser.feed_eof()
    assert (parser.complete, parser.take()) == (True, b"abcdef")
    assert not parser.keep_alive
    parser.feed_eof()  # once more does no harm


@pytest.mark.parametrize(
    ("version", "connection", "kept"),
    [("1.1", "", True), ("1.1", "Connection: close\r\n", False), ("1.0", "", False), ("1.0", "Connection: Keep-Alive\r\n", True)],
)
def test_the_connection_is_kept_as_the_version_and_header_say(version: str, connection: str, kept: bool) -> None:
    head = f"HTTP/{version} 200 OK\r\n{connection}Content-Length: 0\r\n\r\n".encode()
    assert parse(head).keep_alive is kept


@pytest.mark.parametrize("status", [204, 304])
def test_answers_that_have_no_body_by_status(status: int) -> None:
    parser = parse(f"HTTP/1.1 {status} X\r\nContent-Length: 5\r\n\r\n".encode())
    assert parser.complete


def test_an_answer_to_head_has_no_body() -> None:
    assert parse(b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n", method="HEAD").complete


def test_interim_responses_are_passed_over() -> None:
    parser = parse(b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Hints\r\nLink: x\r\n\r\nHTTP/1.1 201 Created\r\nContent-Length: 0\r\n\r\n")
    assert parser.status == 201
    assert "link" not in parser.headers


@pytest.mark.parametrize("head", [b"HTTP/1.1 101 UPGRADED\r\nConnection: Upgrade\r\nUpgrade: tcp\r\n\r\n", b"HTTP/1.1 200 OK\r\n\r\n"])
def test_an_upgrade_leaves_the_rest_of_the_bytes_alone(head: bytes) -> None:
    parser = parse(head + b"\x01\0\0\0raw", upgrade=True)
    assert parser.upgraded
    assert parser.complete
    assert parser.leftover == b"\x01\0\0\0raw"
    assert not parser.keep_alive


def test_an_error_in_answer_to_an_upgrade_is_an_ordinary_response() -> None:
    parser = parse(b"HTTP/1.1 404 Not Found\r\nContent-Length: 2\r\n\r\n{}", upgrade=True)
    assert not parser.upgraded
    assert parser.take() == b"{}"


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"SSH-2.0-x\r\n\r\n", "not an HTTP"),
        (b"HTTP/2 200\r\n\r\n", "not an HTTP"),
        (b"HTTP/1.1 20 OK\r\n\r\n", "not an HTTP"),
        (b"HTTP/1.1 2\xb200 OK\r\n\r\n", "not an HTTP"),
        (b"HTTP/1.1 200 OK\r\nno colon\r\n\r\n", "invalid header"),
        (b"HTTP/1.1 200 OK\r\nA : b\r\n\r\n", "invalid header"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n", "two different"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: -1\r\n\r\n", "invalid content length"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: \xb2\r\n\r\n", "invalid content length"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: " + b"9" * 30 + b"\r\n\r\n", "invalid content length"),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip\r\n\r\n", "unknown transfer encoding"),
        (b"HTTP/1.1 101 X\r\n\r\n", "without being asked"),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nxyz\r\n", "invalid chunk size"),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n-1\r\n", "invalid chunk size"),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n\r\n", "invalid chunk size"),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n" + b"f" * 16 + b"\r\n", "invalid chunk size"),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nabc", "longer than its size"),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n" + b"0" * (MAX_CHUNK_LINE_BYTES + 1), "longer than 4096"),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n" + b"a" * (MAX_CHUNK_LINE_BYTES + 1), "longer than 4096"),
        (b"HTTP/1.1 200 OK\r\nA: " + b"a" * MAX_HEAD_BYTES, "longer than 65536"),
    ],
)
def test_what_cannot_be_framed_is_refused(data: bytes, message: str) -> None:
    with pytest.raises(ProtocolError, match=message):
        parse(data)


def test_two_equal_lengths_are_one() -> None:
    assert parse(b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 1\r\n\r\nx").complete


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "without a response"),
        (b"HTTP", "before the response was complete"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nab", "before the response was complete"),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n", "before the response was complete"),
    ],
)
def test_a_message_that_is_cut_off_is_an_error(data: bytes, message: str) -> None:
    with pytest.raises(ProtocolError, match=message):
        parse(data, eof=True)


MESSAGES = st.one_of(
    st.builds(lambda body: b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%b" % (len(body), body), st.binary(max_size=200)),
    st.builds(
        lambda parts: b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n" + b"".join(map(render_chunk, parts)) + LAST_CHUNK,
        st.lists(st.binary(max_size=50), max_size=5),
    ),
    st.builds(lambda body: b"HTTP/1.1 200 OK\r\n\r\n" + body, st.binary(max_size=50)),
    st.binary(max_size=300),
    st.builds(lambda tail: b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n" + tail, st.binary(max_size=50)),
)


def outcome(pieces: list[bytes], *, upgrade: bool) -> object:
    parser = ResponseParser(upgrade=upgrade)
    body = b""
    try:
        for piece in pieces:
            parser.feed(piece)
            body += parser.take()
        parser.feed_eof()
    except ProtocolError:
        return "refused"
    return parser.status, parser.headers, body + parser.take(), parser.leftover, parser.keep_alive, parser.upgraded


@given(data=MESSAGES, tail=st.binary(max_size=20), upgrade=st.booleans())
def test_byte_by_byte_equals_all_at_once(data: bytes, tail: bytes, upgrade: bool) -> None:
    whole = data + tail
    assert outcome([whole[index : index + 1] for index in range(len(whole))], upgrade=upgrade) == outcome([whole], upgrade=upgrade)


@given(parts=st.lists(st.binary(max_size=100), max_size=8), tail=st.binary(max_size=30))
def test_chunks_round_trip(parts: list[bytes], tail: bytes) -> None:
    data = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n" + b"".join(map(render_chunk, parts)) + LAST_CHUNK + tail
    parser = parse(data)
    assert parser.take() == b"".join(parts)
    assert parser.leftover == tail
