"""libnftables by ctypes: one script in, all of it applied or nothing.

Loaded at first use (some ten milliseconds), which must not be on the path of a container's start. Scripts are rendered by callers
from values that they have checked; nothing is quoted or escaped here.
"""

from __future__ import annotations

import ctypes
import errno
import functools
import json

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from types import TracebackType
    from typing import Any, Self

# nftables/libnftables.h
_NFT_CTX_DEFAULT = 0
_NFT_CTX_OUTPUT_STATELESS, _NFT_CTX_OUTPUT_HANDLE, _NFT_CTX_OUTPUT_JSON, _NFT_CTX_OUTPUT_TERSE = 1 << 2, 1 << 3, 1 << 4, 1 << 11
_NFT_CTX_OUTPUT_NUMERIC_PROTO = 1 << 7
_LIBRARY = "libnftables.so.1"


class LibraryMissing(OSError):
    """libnftables is not installed."""


class Session:
    """A line to nftables in the network namespace of who opens it, for several scripts; not for several threads at once.

    kernel: a line that is closed after something was deleted waits for the end of that, ten milliseconds and more. One that stays does not.
    """

    def __init__(self, *, json: bool = False, handles: bool = False, terse: bool = False, counts: bool = False) -> None:
        """How what is listed is printed: as `json` (libnftables-json(5)), with `handles`, `terse`: without the elements of sets.

        With `counts` also what counters have seen, and protocols as numbers.
        """
        self._library = _load()
        self._context = self._library.nft_ctx_new(_NFT_CTX_DEFAULT)
        if not self._context:
            raise OSError(errno.ENOMEM, "nft_ctx_new: no context")
        for prepare in (self._library.nft_ctx_buffer_output, self._library.nft_ctx_buffer_error):
            if prepare(self._context):
                self.close()
                raise OSError(errno.ENOMEM, f"{prepare.__name__}: no buffer")
        wanted = ((json, _NFT_CTX_OUTPUT_JSON), (handles, _NFT_CTX_OUTPUT_HANDLE), (terse, _NFT_CTX_OUTPUT_TERSE))
        how = _NFT_CTX_OUTPUT_NUMERIC_PROTO if counts else _NFT_CTX_OUTPUT_STATELESS
        self._library.nft_ctx_output_set_flags(self._context, how | sum(flag for is_set, flag in wanted if is_set))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, exc_type: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None) -> None:
        self.close()

    def run(self, script: str) -> str:
        """As `run`."""
        failed = self._library.nft_run_cmd_from_buffer(self._context, script.encode())
        # Fetching a buffer empties it: neither is left to the next script.
        complaint: bytes = self._library.nft_ctx_get_error_buffer(self._context)
        output: bytes = self._library.nft_ctx_get_output_buffer(self._context)
        if failed:
            raise _failure(complaint.decode("utf-8", "replace"))
        return output.decode("utf-8", "replace")

    def close(self) -> None:
        """Idempotent."""
        if self._context:
            self._library.nft_ctx_free(self._context)
            self._context = None


def run(script: str, *, json: bool = False, handles: bool = False, terse: bool = False) -> str:
    """Apply `script`, in nft's own language, as one transaction in the caller's network namespace; returns what it prints.

    How that is printed, `Session` says. Blocks. Raises `OSError` with nft's first complaint (errno ENOENT if something that it names does
    not exist), `LibraryMissing`.
    """
    with Session(json=json, handles=handles, terse=terse) as session:
        return session.run(script)


class SetElement:
    """One element of a set: the parts of its key, protocols as numbers, and how many packets its counter has seen."""

    __slots__ = ("packets", "values")

    def __init__(self, values: Sequence[str | int], packets: int = 0) -> None:
        self.values = tuple(values)
        self.packets = packets


def list_elements(family: str, table: str, names: Sequence[str]) -> dict[str, list[SetElement]]:
    """The elements of sets of a table, by the sets' names. Blocks, and raises, as `run`."""
    found: dict[str, list[SetElement]] = {}
    with Session(json=True, counts=True) as session:
        for name in names:
            document = json.loads(session.run(f"list set {family} {table} {name}\n"))
            found[name] = [_set_element(element) for item in document["nftables"] for element in item.get("set", {}).get("elem", ())]
    return found


def _set_element(element: object) -> SetElement:
    """An element that has more than its key, such as a time or a counter, stands in an object of its own."""
    outer: dict[str, Any] = element.get("elem", {"val": element}) if isinstance(element, dict) else {"val": element}
    key, counter = outer["val"], outer.get("counter")
    values: list[str | int] = key["concat"] if isinstance(key, dict) else [key]
    return SetElement(values, int(counter["packets"]) if isinstance(counter, dict) else 0)


def ensure_available() -> None:
    """Load the library. Raises `LibraryMissing`."""
    _load()


@functools.cache
def _load() -> ctypes.CDLL:
    try:
        library = ctypes.CDLL(_LIBRARY)
    except OSError as error:
        raise LibraryMissing(errno.ENOENT, f"{_LIBRARY} is not installed (Debian package libnftables1)") from error
    # Prototypes are set once, before anybody can call: the library is this module's own.
    for name, result, arguments in (
        ("nft_ctx_new", ctypes.c_void_p, (ctypes.c_uint32,)),
        ("nft_ctx_free", None, (ctypes.c_void_p,)),
        ("nft_ctx_buffer_output", ctypes.c_int, (ctypes.c_void_p,)),
        ("nft_ctx_buffer_error", ctypes.c_int, (ctypes.c_void_p,)),
        ("nft_ctx_get_output_buffer", ctypes.c_char_p, (ctypes.c_void_p,)),
        ("nft_ctx_get_error_buffer", ctypes.c_char_p, (ctypes.c_void_p,)),
        ("nft_ctx_output_set_flags", None, (ctypes.c_void_p, ctypes.c_uint)),
        ("nft_run_cmd_from_buffer", ctypes.c_int, (ctypes.c_void_p, ctypes.c_char_p)),
    ):
        function = getattr(library, name)
        function.restype, function.argtypes = result, arguments
    return library


def _failure(complaint: str) -> OSError:
    """nft prints the place, the message, the line and a caret; errno is only in the message's words."""
    first = next((line for line in complaint.splitlines() if "Error:" in line), complaint.strip().partition("\n")[0])
    text = first.partition("Error: ")[2] or first or "nft failed without a word"
    number = next((code for words, code in _WORDS.items() if words in text), errno.EINVAL)
    return OSError(number, f"nft: {text}")


_WORDS = {
    "No such file or directory": errno.ENOENT,
    "Operation not permitted": errno.EPERM,
    "Device or resource busy": errno.EBUSY,
    "Operation not supported": errno.EOPNOTSUPP,
    "File exists": errno.EEXIST,
}
