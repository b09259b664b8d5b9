"""Debian's docker-registry, run for a test: in the clear, over TLS, with passwords, or with tokens of a server that is here too."""

from __future__ import annotations

import base64
import json
import re
import secrets
import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

from support.certificates import Authority
from support.polling import eventually
from support.registry import PASSWORD, USERNAME

# bcrypt of PASSWORD, made once: nothing that is installed with Python makes another.
HTPASSWD = f"{USERNAME}:$2y$05$abcdefghijklmnopqrstuupx2xBUC4954936wVIjyyPHmUBFu0wCW\n"
SERVICE, ISSUER = "docker-registry of a test", "token server of a test"


@contextmanager
def docker_registry(
    directory: Path,
    *,
    auth: str = "",
    tls: Path | None = None,
    client_authority: Path | None = None,
    storage: Path | None = None,
    network_of: int | None = None,
) -> Iterator[str]:
    """A registry that stores below `directory`, or in the `storage` of another one; yields its `host:port`.

    `auth` is "", "basic" or "token". `tls` is a directory with `cert.pem` and `key.pem`; with `client_authority`, a file, clients must
    show a certificate of it. It is on the loopback of the process `network_of`, if one is given.
    """
    directory.mkdir()
    config: dict[str, object] = {
        "version": "0.1",
        "log": {"level": "info", "formatter": "text"},
        "storage": {"filesystem": {"rootdirectory": str(storage or directory / "storage")}, "delete": {"enabled": True}},
        "http": {"addr": "127.0.0.1:0", "tls": _tls(tls, client_authority)},
    }
    if auth == "basic":
        (directory / "htpasswd").write_text(HTPASSWD)
        config["auth"] = {"htpasswd": {"realm": "test", "path": str(directory / "htpasswd")}}
    if auth == "token":
        with token_server(Authority(directory, "signer")) as realm:
            bundle = str(directory / "signer" / "ca.pem")
            config["auth"] = {"token": {"realm": realm, "service": SERVICE, "issuer": ISSUER, "rootcertbundle": bundle}}
            with _running(directory, config, network_of) as host:
                yield host
        return
    with _running(directory, config, network_of) as host:
        yield host


def _tls(tls: Path | None, client_authority: Path | None) -> dict[str, object]:
    if tls is None:
        return {}
    settings: dict[str, object] = {"certificate": str(tls / "cert.pem"), "key": str(tls / "key.pem")}
    return settings if client_authority is None else settings | {"clientcas": [str(client_authority)]}


@contextmanager
def _running(directory: Path, config: dict[str, object], network_of: int | None) -> Iterator[str]:
    # JSON is YAML.
    (directory / "config.yml").write_text(json.dumps(config))
    log = directory / "log"
    command = ["docker-registry", "serve", str(directory / "config.yml")]
    entering = ["nsenter", "--net", "--target", str(network_of)] if network_of is not None else []
    with log.open("wb") as output:
        process = subprocess.Popen([*entering, *command], stdout=output, stderr=subprocess.STDOUT, env={"PATH": "/usr/bin"})
    try:

        def address() -> str:
            assert process.poll() is None, log.read_text()
            match = re.search(r"listening on (127\.0\.0\.1:\d+)", log.read_text())
            return match[1] if match is not None else ""

        yield eventually(address, "docker-registry listens")
    finally:
        process.terminate()
        process.wait(10)


@contextmanager
def token_server(authority: Authority) -> Iterator[str]:
    """A token server that gives everybody with the password what he asks for, and everybody else the right to pull; yields its realm."""
    signer = authority.issue("tokens")
    chain = base64.b64encode(base64.b64decode("".join((signer / "cert.pem").read_text().splitlines()[1:-1]))).decode()
    password = "Basic " + base64.b64encode(f"{USERNAME}:{PASSWORD}".encode()).decode()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            shown = self.headers.get("Authorization")
            if shown not in {None, password}:
                self._answer(401, {"details": "incorrect username or password"})
                return
            asked = parse_qs(urlsplit(self.path).query).get("scope", [])
            access: list[dict[str, object]] = []
            for scope in asked:
                kind, name, actions = scope.split(":")
                granted = [action for action in actions.split(",") if shown is not None or action == "pull"]
                access.append({"type": kind, "name": name, "actions": granted})
            self._answer(200, {"token": _sign(signer / "key.pem", chain, access), "expires_in": 300})

        def _answer(self, status: int, document: dict[str, object]) -> None:
            body = json.dumps(document).encode()
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_args: object) -> None:
            """Nobody reads it."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, name="token server")
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_address[1]}/token"
        finally:
            server.shutdown()
            thread.join()


def _sign(key: Path, chain: str, access: list[dict[str, object]]) -> str:
    """A JSON web token for docker-registry. spec: RFC 7515, ES256; the certificate's chain goes along."""
    now = int(time.time())
    claims = {"iss": ISSUER, "sub": USERNAME, "aud": SERVICE, "exp": now + 300, "nbf": now - 10, "iat": now, "jti": secrets.token_hex(8)}
    signed = f"{_encoded({'typ': 'JWT', 'alg': 'ES256', 'x5c': [chain]})}.{_encoded(claims | {'access': access})}"
    der = subprocess.run(["openssl", "dgst", "-sha256", "-sign", str(key)], input=signed.encode(), capture_output=True, check=True).stdout
    return f"{signed}.{_base64url(_both_numbers(der))}"


def _encoded(document: dict[str, object]) -> str:
    return _base64url(json.dumps(document).encode())


def _base64url(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def _both_numbers(der: bytes) -> bytes:
    """The two numbers of an ECDSA signature, 32 bytes each, out of their DER: a sequence of two integers, all shorter than 128 bytes."""
    first = der[4 : 4 + der[3]]
    second = der[6 + der[3] :]
    return b"".join(number.lstrip(b"\0").rjust(32, b"\0") for number in (first, second))
