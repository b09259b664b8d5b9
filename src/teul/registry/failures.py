"""Broken connections, told as Go tells them: what the docker command shows of them, and what people search for."""

from __future__ import annotations

import asyncio
import errno
import os
import re
import socket
import ssl

import aiohttp

# asyncio says which address it was only in its text.
_PEER = re.compile(r"\('([^']+)', (\d+)")
_REASON = re.compile(r"\[SSL: ([A-Z0-9_]+)\]")
_ALERT = re.compile(r"^(?:SSLV3|TLSV1|TLSV13)_ALERT_")
# What OpenSSL calls the first bytes of an answer in the clear.
_NOT_TLS = frozenset({"WRONG_VERSION_NUMBER", "HTTP_REQUEST", "HTTPS_PROXY_REQUEST", "PACKET_LENGTH_TOO_LONG", "UNKNOWN_PROTOCOL"})
# What X509_verify_cert(3) may find.
_UNKNOWN_AUTHORITY = frozenset({2, 18, 19, 20, 21, 27})
_EXPIRED = frozenset({9, 10})
_WRONG_NAME = frozenset({62, 64})

HTTP_TO_HTTPS = "http: server gave HTTP response to HTTPS client"


def describe_request(method: str, url: str, problem: str) -> str:
    """Go's `url.Error`: `Get "https://host/v2/": problem`."""
    return f'{method.capitalize()} "{url}": {problem}'


def describe_failure(error: BaseException, host: str, port: int) -> str:
    """What went wrong on the way to `host` and `port`, in Go's words."""
    match error:
        case aiohttp.ClientConnectorCertificateError():
            return _certificate(error.certificate_error, host)
        case aiohttp.ClientConnectorDNSError():
            missing = error.os_error.errno in {socket.EAI_NONAME, socket.EAI_NODATA} or error.os_error.errno is None
            return f"dial tcp: lookup {host}: {'no such host' if missing else 'server misbehaving'}"
        case aiohttp.InvalidURL() | UnicodeError():
            # A name that cannot be looked up, such as one with too long a label.
            return f"dial tcp: lookup {host}: no such host"
        case aiohttp.ClientProxyConnectionError():
            return f"proxyconnect tcp: {_dial(error.os_error, error.host, error.port)}"
        case aiohttp.ClientSSLError():
            return _tls(error.os_error)
        case aiohttp.ClientConnectorError():
            return _dial(error.os_error, error.host, error.port)
        case aiohttp.ConnectionTimeoutError():
            return f"dial tcp {_join(host, port)}: i/o timeout"
        case aiohttp.ServerTimeoutError() | TimeoutError():
            return "net/http: timeout awaiting response headers"
        case aiohttp.ServerDisconnectedError():
            return "EOF"
        case aiohttp.ClientPayloadError() | asyncio.IncompleteReadError():
            return "unexpected EOF"
        case aiohttp.ClientHttpProxyError():
            return error.message or f"proxy answered {error.status}"
        case aiohttp.ClientResponseError():
            return "net/http: HTTP/1.x transport connection broken: malformed HTTP response"
        case ssl.SSLError():
            return _tls(error)
        case OSError() if _REASON.search(str(error)):
            # What the peer says of the handshake may come after it; aiohttp keeps the text of that only.
            return _tls(error)
        case OSError() if error.errno is not None:
            return f"read tcp {_join(host, port)}: read: {os.strerror(error.errno).lower()}"
    return str(error) or type(error).__name__


def _dial(error: OSError, host: str, port: int | None) -> str:
    text = str(error)
    peer = _PEER.search(text)
    address = _join(peer[1], int(peer[2])) if peer is not None else _join(host, port or 0)
    number = error.errno
    if number is None:
        # Several addresses were tried; the last one's trouble is as good as any.
        found = re.findall(r"\[Errno (\d+)\]", text)
        number = int(found[-1]) if found else errno.ECONNREFUSED
    if isinstance(error, TimeoutError) or number == errno.ETIMEDOUT:
        return f"dial tcp {address}: i/o timeout"
    return f"dial tcp {address}: connect: {os.strerror(number).lower()}"


def _certificate(error: Exception, host: str) -> str:
    code = error.verify_code if isinstance(error, ssl.SSLCertVerificationError) else 0
    if code in _UNKNOWN_AUTHORITY:
        said = "certificate signed by unknown authority"
    elif code in _EXPIRED:
        said = "certificate has expired or is not yet valid"
    elif code in _WRONG_NAME or (isinstance(error, ssl.CertificateError) and not code):
        said = f"certificate is not valid for any names, but wanted to match {host}"
    else:
        said = getattr(error, "verify_message", "") or str(error)
    return f"tls: failed to verify certificate: x509: {said}"


def _tls(error: OSError) -> str:
    found = _REASON.search(str(error))
    reason = getattr(error, "reason", None) or (found[1] if found is not None else "")
    if reason in _NOT_TLS:
        return HTTP_TO_HTTPS
    if _ALERT.match(reason):
        return f"remote error: tls: {_ALERT.sub('', reason).replace('_', ' ').lower()}"
    if not reason:
        return "EOF" if isinstance(error, ConnectionError | ssl.SSLEOFError) else (error.strerror or str(error)).lower()
    return f"tls: {reason.replace('_', ' ').lower()}"


def _join(host: str, port: int) -> str:
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
