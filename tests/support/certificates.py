"""A certificate authority for one test, made with openssl."""

from __future__ import annotations

import subprocess
from pathlib import Path


class Authority:
    """Signs certificates into directories laid out as `DOCKER_CERT_PATH`: ca.pem, cert.pem, key.pem."""

    def __init__(self, directory: Path, name: str) -> None:
        self.directory = directory / name
        self.directory.mkdir()
        self._openssl("req", "-x509", *self._key("ca-key.pem"), "-subj", f"/CN={name}", "-days", "2", "-out", "ca.pem")

    def issue(self, name: str, *, server: bool = False) -> Path:
        """A certificate for a client, or for a server at 127.0.0.1, ::1 and localhost."""
        place = self.directory / name
        place.mkdir()
        usage = "serverAuth" if server else "clientAuth"
        names = "subjectAltName=IP:127.0.0.1,IP:::1,DNS:localhost\n" if server else ""
        (place / "extensions").write_text(f"{names}extendedKeyUsage={usage}\n")
        self._openssl("req", "-new", *self._key(f"{name}/key.pem"), "-subj", f"/CN={name}", "-out", f"{name}/request")
        signer = ("-CA", "ca.pem", "-CAkey", "ca-key.pem", "-CAcreateserial")
        self._openssl(
            "x509", "-req", "-in", f"{name}/request", *signer, "-days", "2", "-extfile", f"{name}/extensions", "-out", f"{name}/cert.pem"
        )
        (place / "ca.pem").write_bytes((self.directory / "ca.pem").read_bytes())
        return place

    @staticmethod
    def _key(path: str) -> tuple[str, ...]:
        return ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-keyout", path)

    def _openssl(self, *arguments: str) -> None:
        done = subprocess.run(["openssl", *arguments], cwd=self.directory, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
