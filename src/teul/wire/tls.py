"""One side of a TLS connection: bytes in, bytes out, no socket.

The standard library's TLS over asyncio ends the whole connection when the peer ends its sending side, and its blocking kind waits for
the peer when this side ends its own. Attached streams need what TCP has: each side ends by itself. In the protocol (RFC 8446 section 6.1)
a close_notify is just that, so here it is kept apart from the end of the connection.
"""

from __future__ import annotations

import ssl

_PIECE_BYTES = 64 * 1024


class TlsFailed(Exception):
    """The peer is not who it must be, or does not speak TLS. The alert for it may still be in `take`."""

    def __init__(self, message: str) -> None:
        super().__init__(message)
        self.message = message


class TlsSession:
    """Feed what the connection brings to `receive`, send what `take` returns; a client's first `take` begins the handshake.

    `established` once the peer has been verified as far as the context asks; `ended` once the peer sends no more; `cut` if then the peer
    did not say so: whoever can interrupt the connection can end it anywhere, and what came may be half of what was meant.

    With TLS 1.3 a server
    refuses a client's certificate after the client believes itself established: the client hears of that from its next `receive`.
    """

    def __init__(self, context: ssl.SSLContext, *, server_side: bool, server_name: str | None = None) -> None:
        self._incoming = ssl.MemoryBIO()
        self._outgoing = ssl.MemoryBIO()
        self._object = context.wrap_bio(self._incoming, self._outgoing, server_side=server_side, server_hostname=server_name)
        self.established = False
        self.ended = False
        self.cut = False
        if not server_side:
            self._shake_hands()

    def receive(self, data: bytes) -> bytes:
        """Take ciphertext (b"" at the end of the connection); returns the plaintext that can be read by now. Raises `TlsFailed`."""
        if self.ended:
            return b""
        if data:
            self._incoming.write(data)
        else:
            self._incoming.write_eof()
        if not self.established:
            self._shake_hands()
        return self._read() if self.established else b""

    def send(self, data: bytes) -> None:
        """Encrypt `data`; only once the session is established. Raises `TlsFailed`."""
        view = memoryview(data)
        try:
            while view:
                view = view[self._object.write(view) :]
        except ssl.SSLError as error:
            raise TlsFailed(_reason(error)) from error

    def end(self) -> None:
        """Say that nothing more will be sent. What the peer sends can still be received."""
        try:
            self._object.unwrap()
        except ssl.SSLError:
            # This side's close_notify is on its way; the rest of this call is about the peer's, which nobody waits for here.
            return

    def take(self) -> bytes:
        """The ciphertext to be sent, once."""
        return self._outgoing.read()

    def _shake_hands(self) -> None:
        try:
            self._object.do_handshake()
        except ssl.SSLWantReadError:
            return
        except ssl.SSLError as error:
            raise TlsFailed(_reason(error)) from error
        self.established = True

    def _read(self) -> bytes:
        pieces: list[bytes] = []
        try:
            while piece := self._object.read(_PIECE_BYTES):
                pieces.append(piece)
            self.ended = True
        except ssl.SSLWantReadError:
            pass
        except ssl.SSLZeroReturnError:
            self.ended = True
        except ssl.SSLEOFError:
            self.ended = self.cut = True
        except ssl.SSLError as error:
            raise TlsFailed(_reason(error)) from error
        return b"".join(pieces)


def _reason(error: ssl.SSLError) -> str:
    """`certificate verify failed: self-signed certificate` and the like, without OpenSSL's numbers and file names."""
    if isinstance(error, ssl.SSLCertVerificationError):
        return f"failed to verify certificate: {error.verify_message}"
    return (error.reason or error.strerror or str(error)).replace("_", " ").lower()
