"""What can go wrong between the engine and a registry, in dockerd's words.

A registry's refusal is a `Refused`, whose text is what dockerd makes of the answer (moby's vendored `registry/client/errors.go`). While an
image is pulled, `pull_error` makes of it what the docker command shows (moby distribution/errors.go). A registry that cannot be reached
gives `ConnectionFailed`, worded as Go words it: `Get "https://host/v2/": dial tcp …`.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

from teul.errors import Integrity, InvalidParameter, NotFound, Remote, TeulError, Unauthorized
from teul.oci.reference import Reference

# The texts of the codes that registries use. spec: OCI distribution-spec, "Error Codes"; the sentences are the distribution project's.
_MESSAGES = {
    "UNKNOWN": "unknown error",
    "UNSUPPORTED": "The operation is unsupported.",
    "UNAUTHORIZED": "authentication required",
    "DENIED": "requested access to the resource is denied",
    "UNAVAILABLE": "service unavailable",
    "TOOMANYREQUESTS": "too many requests",
    "DIGEST_INVALID": "provided digest did not match uploaded content",
    "SIZE_INVALID": "provided length did not match content length",
    "NAME_INVALID": "invalid repository name",
    "TAG_INVALID": "manifest tag did not match URI",
    "NAME_UNKNOWN": "repository name not known to registry",
    "MANIFEST_UNKNOWN": "manifest unknown",
    "MANIFEST_INVALID": "manifest invalid",
    "MANIFEST_UNVERIFIED": "manifest failed signature verification",
    "MANIFEST_BLOB_UNKNOWN": "blob unknown to registry",
    "BLOB_UNKNOWN": "blob unknown to registry",
    "BLOB_UPLOAD_UNKNOWN": "blob upload unknown to registry",
    "BLOB_UPLOAD_INVALID": "blob upload invalid",
    "PAGINATION_NUMBER_INVALID": "invalid number of results requested",
}


@dataclass(frozen=True, slots=True)
class Problem:
    """One of the errors that a registry lists. `code` is one that dockerd knows; what it does not know counts as UNKNOWN."""

    code: str
    message: str
    has_detail: bool = False

    @classmethod
    def of(cls, code: str, message: str = "", *, has_detail: bool = False) -> Problem:
        return cls(code if code in _MESSAGES else "UNKNOWN", message, has_detail)

    @classmethod
    def described(cls, code: str) -> Problem:
        """An error that is not in the body: `code`, with its usual text."""
        return cls(code, _MESSAGES[code], has_detail=True)

    @property
    def is_bare(self) -> bool:
        """docker: an error without detail whose message says no more than its code is the code alone (errcode.Errors.UnmarshalJSON)."""
        return not self.has_detail and self.message in {"", _MESSAGES[self.code]}

    def __str__(self) -> str:
        code = self.code.replace("_", " ").lower()
        return code if self.is_bare else f"{code}: {self.message}"


class RegistryError(Remote):
    """Base of what goes wrong with a registry that the engine does not know better. docker: an unknown error, hence status 500."""


class Refused(RegistryError):
    """The registry answered with an error: `status` is HTTP's, `problems` what its body says, if that says anything.

    `retry_after_seconds` is when it wants to be asked again, if it said so.
    """

    def __init__(
        self, message: str, *, status: int, problems: Sequence[Problem] = (), retry_after_seconds: float | None = None, prefix: str = ""
    ) -> None:
        super().__init__(prefix + message)
        self.status = status
        self.problems = tuple(problems)
        self.retry_after_seconds = retry_after_seconds

    @property
    def code(self) -> str:
        """The first problem's code; "" if the body named none."""
        return self.problems[0].code if self.problems else ""


class _RequestFailed(RegistryError):
    """A request came to nothing. `problem` is the message without the request in front of it (`Get "https://…": `)."""

    def __init__(self, message: str, *, problem: str = "") -> None:
        super().__init__(message)
        self.problem = problem or message


class ConnectionFailed(_RequestFailed):
    """The connection could not be made, or broke."""


class Unreachable(ConnectionFailed):
    """There is no registry to be spoken to at an endpoint: the first request to it did not even get a refusal."""


class BadAnswer(RegistryError):
    """The registry answered, but with something that the protocol does not allow, or that the engine does not follow."""


class AuthenticationFailed(_RequestFailed):
    """There are no credentials for what the registry asks, or its token server gives no token."""


class LoginFailed(Unauthorized):
    """The credentials of a login are wrong, says the token server."""


class LoginRefused(RegistryError):
    """The credentials of a login are wrong, says the registry itself. docker: status 500, since nobody looks at what it says."""


class NotInRegistry(NotFound):
    """A pull's reference names nothing that the registry has, or shows. docker: a denied pull may be either, so it is this too."""


class ContentMismatch(Integrity):
    """What the registry sent is not what its digest and size say."""


class InvalidRegistryAuth(InvalidParameter):
    """The credentials that came with an API request cannot be read."""


class InvalidRegistryEndpoint(InvalidParameter):
    """A client named a host to be searched that cannot be reached. docker: status 400, since the client chose it."""


class InvalidRegistryConfig(InvalidParameter):
    """A mirror, an insecure registry, a proxy or a file below certs.d is not what it should be."""


def pull_error(error: TeulError, reference: Reference) -> TeulError:
    """What the client of a pull of `reference` is told of `error`.

    docker: distribution/errors.go, translatePullError. An error that is nothing but its code passes as it is, and is no 404.
    """
    if not isinstance(error, Refused) or not error.problems or error.problems[0].is_bare:
        return error
    match error.code:
        case "DENIED":
            name = reference.familiar_name
            said = f"pull access denied for {name}, repository does not exist or may require 'docker login'"
        case "MANIFEST_UNKNOWN":
            said = f"manifest for {reference.familiar} not found"
        case "NAME_UNKNOWN":
            said = f"repository {reference.familiar_name} not found"
        case _:
            return error
    return NotInRegistry(f"{said}: {error.problems[0]}")


@contextmanager
def pulling(reference: Reference) -> Iterator[None]:
    """Have what goes wrong inside told as `pull_error` tells it."""
    try:
        yield
    except TeulError as error:
        told = pull_error(error, reference)
        if told is error:
            raise
        raise told from error


@contextmanager
def transferring() -> Iterator[None]:
    """Have what goes wrong with a blob's requests told without the request. docker: distribution/errors.go, retryOnError.

    That there is no registry at all is told with it, for that is noticed before.
    """
    try:
        yield
    except Unreachable:
        raise
    except _RequestFailed as error:
        if error.problem == error.message:
            raise
        raise type(error)(error.problem) from error
