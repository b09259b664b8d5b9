"""A connection to an engine over TLS, used like a socket: loaded only when somebody asks for TLS.

Ending the client's side sends a close_notify and nothing else, as docker's client does, so that an engine's output outlives the input.
"""

from __future__ import annotations

import errno
import os
import ssl
from _socket import socket

from teul.wire.tls import TlsFailed, TlsSession

TYPE_CHECKING = False
if TYPE_CHECKING:
    from teul.client.address import TlsOptions

_RECEIVE_BYTES = 64 * 1024
_PIECE_BYTES = 16 * 1024


class TlsSocket:
    """The part of a socket's methods that this package uses. `unsent`: encrypted bytes that still wait for room; see `flush`."""

    def __init__(self, connection: socket, context: ssl.SSLContext, server_name: str) -> None:
        """Shake hands over a connected, blocking socket, which this object owns from now on. Raises `OSError`."""
        self._socket = connection
        self.unsent = b""
        self._plain = b""
        try:
            self._session = TlsSession(context, server_side=False, server_name=server_name)
            self._send_pending()
            while not self._session.established:
                data = connection.recv(_RECEIVE_BYTES)
                self._plain += self._decrypt(data)
                self._send_pending()
                if not data and not self._session.established:
                    raise OSError(errno.ECONNRESET, "the engine ended the TLS handshake")
        except BaseException:
            connection.close()
            raise

    def fileno(self) -> int:
        return self._socket.fileno()

    def setblocking(self, flag: bool) -> None:
        self._socket.setblocking(flag)

    def recv(self, _size: int) -> bytes:
        """All decrypted bytes that have come, so that none wait here unseen by poll(2); b"" at the end.

        Raises `OSError` at an end that the engine did not announce: some of its output may be missing.
        """
        while not self._plain and not self._session.ended:
            self._plain = self._decrypt(self._socket.recv(_RECEIVE_BYTES))
            self._send_pending()
        plain, self._plain = self._plain, b""
        if not plain and self._session.cut:
            raise OSError(errno.ECONNRESET, "unexpected EOF")
        return plain

    def send(self, data: bytes) -> int:
        """Take some of `data`. Raises `BlockingIOError` while earlier bytes wait for room."""
        self.flush()
        if self.unsent:
            raise BlockingIOError(errno.EAGAIN, os.strerror(errno.EAGAIN))
        piece = data[:_PIECE_BYTES]
        try:
            self._session.send(piece)
        except TlsFailed as error:
            raise _os_error(error) from error
        self._send_pending()
        return len(piece)

    def sendall(self, data: bytes) -> None:
        view = memoryview(data)
        while view:
            view = view[self.send(bytes(view[:_PIECE_BYTES])) :]

    def flush(self) -> None:
        """Send what waits, as far as the engine takes it."""
        try:
            while self.unsent:
                self.unsent = self.unsent[self._socket.send(self.unsent) :]
        except BlockingIOError:
            return

    def shutdown(self, _how: int) -> None:
        """End the client's side; the engine's goes on."""
        self._session.end()
        self._send_pending()

    def close(self) -> None:
        self._socket.close()

    def _decrypt(self, data: bytes) -> bytes:
        try:
            return self._session.receive(data)
        except TlsFailed as error:
            raise _os_error(error) from error

    def _send_pending(self) -> None:
        self.unsent += self._session.take()
        self.flush()


def _os_error(error: TlsFailed) -> OSError:
    return OSError(errno.EPROTO, f"tls: {error.message}")


def client_context(options: TlsOptions) -> ssl.SSLContext:
    """What a client shows and demands. Raises `OSError` with docker's words for files that cannot be used."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    if not options.verify:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    elif options.ca:
        try:
            context.load_verify_locations(cafile=options.ca)
        except OSError as error:
            raise OSError(errno.EINVAL, f'could not read CA certificate "{options.ca}": {_why(error)}') from error
    else:
        context.load_default_certs()
    if options.cert or options.key:
        try:
            context.load_cert_chain(options.cert, options.key)
        except OSError as error:
            raise OSError(errno.EINVAL, f"could not load X509 key pair ({options.cert}, {options.key}): {_why(error)}") from error
    return context


def _why(error: OSError) -> str:
    """`ssl.SSLError` is an OSError whose number means something else."""
    if isinstance(error, ssl.SSLError):
        return (error.reason or str(error)).replace("_", " ").lower()
    return (error.strerror or str(error)).lower()
