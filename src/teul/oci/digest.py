"""Content digests: `algorithm:hex` of exact bytes, and the chain ids built from them.

A `Digest` that exists is valid: there is no way to make one out of unchecked text. Everything that addresses content takes a
`Digest`, never a `str`, so a path or a query cannot be built from something that merely looks like one.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, NoReturn, Protocol

from teul.errors import InvalidParameter

if TYPE_CHECKING:
    from _typeshed import ReadableBuffer

# Hex digits of a whole digest, by algorithm. spec: OCI image-spec descriptor.md, "Registered algorithms"; sha384 is go-digest's.
_HEX_LENGTHS = {"sha256": 64, "sha384": 96, "sha512": 128}
_LOWER_HEX = re.compile(r"[a-f0-9]+")
_WELL_FORMED = re.compile(r"[a-z0-9]+(?:[.+_-][a-z0-9]+)*:[a-zA-Z0-9=_-]+")


class InvalidDigest(InvalidParameter):
    """The text is no digest that this engine can check content against."""


class Hasher(Protocol):
    """A hash object of `hashlib`."""

    def update(self, data: ReadableBuffer, /) -> None: ...
    def hexdigest(self) -> str: ...


class Digest:
    """An immutable, valid digest. Equal, ordered and hashed by its text."""

    __slots__ = ("_colon", "_text")
    _text: str
    _colon: int

    def __init__(self, text: str) -> None:
        """The digest that `text` spells. Raises `InvalidDigest`, worded as go-digest words it."""
        object.__setattr__(self, "_colon", _check(text))
        object.__setattr__(self, "_text", text)

    @classmethod
    def of(cls, data: bytes, algorithm: str = "sha256") -> Digest:
        """The digest of `data`."""
        return cls(f"{algorithm}:{hashlib.new(algorithm, data).hexdigest()}")

    @property
    def algorithm(self) -> str:
        return self._text[: self._colon]

    @property
    def hex(self) -> str:
        return self._text[self._colon + 1 :]

    @property
    def short(self) -> str:
        """The twelve hex digits that Docker prints."""
        return self.hex[:12]

    def hasher(self) -> Hasher:
        """A fresh hash object whose `hexdigest()` is to be compared with `hex`."""
        return hashlib.new(self.algorithm)

    def __str__(self) -> str:
        return self._text

    def __repr__(self) -> str:
        return f"Digest({self._text!r})"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Digest) and self._text == other._text

    def __lt__(self, other: Digest) -> bool:
        return self._text < other._text

    def __hash__(self) -> int:
        return hash(self._text)

    def __setattr__(self, name: str, value: object) -> NoReturn:
        raise AttributeError(f"a Digest does not change: {name}")

    def __delattr__(self, name: str) -> NoReturn:
        raise AttributeError(f"a Digest does not change: {name}")


def find_digest(text: str) -> Digest | None:
    """The digest written as `text`, or None if `text` is no digest."""
    try:
        return Digest(text)
    except InvalidDigest:
        return None


def chain_ids(diff_ids: Iterable[Digest]) -> list[Digest]:
    """The chain id of every prefix of a stack of layers, bottom first. spec: OCI image-spec config.md, "Layer ChainID"."""
    chain: list[Digest] = []
    for diff_id in diff_ids:
        chain.append(Digest.of(f"{chain[-1]} {diff_id}".encode()) if chain else diff_id)
    return chain


def chain_id(diff_ids: Sequence[Digest]) -> Digest | None:
    """The chain id of the whole stack of layers, bottom first; None for no layers."""
    return chain_ids(diff_ids)[-1] if diff_ids else None


def _check(text: str) -> int:
    """Where the colon of the digest `text` stands. Raises `InvalidDigest` if it is none."""
    colon = text.find(":")
    if colon <= 0 or colon + 1 == len(text):
        raise InvalidDigest("invalid checksum digest format")
    length = _HEX_LENGTHS.get(text[:colon])
    if length is None:
        well_formed = _WELL_FORMED.fullmatch(text) is not None
        raise InvalidDigest("unsupported digest algorithm" if well_formed else "invalid checksum digest format")
    encoded = text[colon + 1 :]
    if len(encoded) != length:
        raise InvalidDigest("invalid checksum digest length")
    if _LOWER_HEX.fullmatch(encoded) is None:
        raise InvalidDigest("invalid checksum digest format")
    return colon
