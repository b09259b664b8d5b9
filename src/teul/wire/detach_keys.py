"""The key sequence by which a user leaves a container's terminal without ending it.

A sequence is written as keys joined by commas: one character, `ctrl-` and one of a to z @ [ \\ ] ^ _, or DEL. While only a beginning
of the sequence has been typed nothing of it is passed on; when the next key does not continue it, all of it is.
Source: moby term ascii.go and proxy.go.
"""

from __future__ import annotations

from teul.errors import InvalidParameter

DEFAULT_SEQUENCE = b"\x10\x11"  # ctrl-p,ctrl-q

_CONTROL = {f"ctrl-{name}": code for code, name in enumerate("@abcdefghijklmnopqrstuvwxyz[\\]^_")}


def parse_detach_keys(text: str) -> bytes:
    """The bytes that a terminal sends for the sequence; the default one if `text` is empty. Raises InvalidParameter."""
    if not text:
        return DEFAULT_SEQUENCE
    codes = bytearray()
    for key in text.split(","):
        if len(key.encode()) == 1:
            codes += key.encode()
        elif key in _CONTROL:
            codes.append(_CONTROL[key])
        elif key == "DEL":
            codes.append(127)
        else:
            raise InvalidParameter(f"Invalid detach keys ({text}) provided")
    return bytes(codes)


class DetachKeys:
    """Looks for the sequence in what the user types, wherever the network cut it."""

    def __init__(self, sequence: bytes = DEFAULT_SEQUENCE) -> None:
        self._sequence = sequence
        self._matched = 0
        self.detached = False

    def feed(self, data: bytes) -> bytes:
        """The bytes of `data`, and of those held back before, that are for the process.

        Sets `detached` when the sequence is complete; bytes after it are dropped, in this call and later.
        """
        if self.detached:
            return b""
        passed = bytearray()
        for byte in data:
            if byte == self._sequence[self._matched]:
                self._matched += 1
                if self._matched == len(self._sequence):
                    self.detached = True
                    break
                continue
            # docker: the key that breaks the sequence does not begin a new one.
            passed += self._sequence[: self._matched]
            passed.append(byte)
            self._matched = 0
        return bytes(passed)
