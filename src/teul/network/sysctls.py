"""Settings of the host that networks need, and what they were before. Blocks.

What was found is written down before it is changed, in a directory that does not survive a reboot (nor do the settings), so that an
engine that leaves for good can put it back, also when it was another that changed it.
"""

from __future__ import annotations

import os

import msgspec

from teul.store.atomic import replace_file

_DECODER = msgspec.json.Decoder(dict[str, str])


class Sysctls:
    """The settings that engines with one run directory have changed. Not for several threads at once."""

    def __init__(self, path: str) -> None:
        """`path` is the file in which the former values are kept; its directory is there when something is changed."""
        self._path = path

    def ensure(self, name: str, value: str, *, is_kept: bool = True) -> None:
        """Give `name` (below /proc/sys) this value; nothing is written where it has it: /proc/sys may be read-only then.

        Without `is_kept` what it was is not remembered: for settings that go with the device that they are of. A setting of IPv6 that a
        kernel without IPv6 does not have is passed over. Raises `OSError`.
        """
        try:
            found = read(name)
        except FileNotFoundError:
            if name.startswith("net/ipv6/"):
                return
            raise
        if found == value:
            return
        if is_kept:
            former = self._load()
            if name not in former:
                self._save({**former, name: found})
        _write(name, value)

    def restore(self) -> list[str]:
        """Put back what was found, and forget it; returns the names. What is gone by now is passed over. Raises `OSError`."""
        former = self._load()
        for name, value in former.items():
            try:
                if read(name) != value:
                    _write(name, value)
            except FileNotFoundError:
                continue  # the device has gone
        if former:
            os.unlink(self._path)
        return [*former]

    def _load(self) -> dict[str, str]:
        try:
            with open(self._path, "rb") as file:
                return _DECODER.decode(file.read())
        except FileNotFoundError:
            return {}

    def _save(self, former: dict[str, str]) -> None:
        replace_file(self._path, msgspec.json.encode(former), 0o600, durable=False)


def read(name: str) -> str:
    """The setting's value. Raises `OSError`."""
    with open(f"/proc/sys/{name}", encoding="ascii") as file:
        return file.read().strip()


def _write(name: str, value: str) -> None:
    with open(f"/proc/sys/{name}", "w", encoding="ascii") as file:
        file.write(value)
