"""Image references: `[domain/]path[:tag][@digest]`, in the familiar spelling of people and the canonical one of records.

Grammar, normal forms and error texts are those of the distribution project's `reference` package, which every Docker client
uses too. `busybox` is familiar, `docker.io/library/busybox:latest` is canonical.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace

from teul.errors import InvalidParameter
from teul.oci.digest import Digest, InvalidDigest, find_digest
from teul.oci.pattern import matches_pattern

DEFAULT_DOMAIN = "docker.io"
DEFAULT_TAG = "latest"
_LEGACY_DOMAIN = "index.docker.io"
_OFFICIAL = "library/"
_MAX_PATH_CHARACTERS = 255

# The grammar, as the reference package's own comment describes it.
_DOMAIN_COMPONENT = r"(?:[a-zA-Z0-9]|[a-zA-Z0-9][a-zA-Z0-9-]*[a-zA-Z0-9])"
_HOST = rf"(?:{_DOMAIN_COMPONENT}(?:\.{_DOMAIN_COMPONENT})*|\[[a-fA-F0-9:]+\])"
_DOMAIN = rf"{_HOST}(?::[0-9]+)?"
_PATH_COMPONENT = r"[a-z0-9]+(?:(?:[._]|__|[-]+)[a-z0-9]+)*"
_PATH = rf"{_PATH_COMPONENT}(?:/{_PATH_COMPONENT})*"
_TAG = r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,127}"
_DIGEST = r"[A-Za-z][A-Za-z0-9]*(?:[-_+.][A-Za-z][A-Za-z0-9]*)*:[0-9a-fA-F]{32,}"
_REFERENCE = re.compile(rf"({_DOMAIN}/)?({_PATH})(?::({_TAG}))?(?:@({_DIGEST}))?")
_TAG_ALONE = re.compile(_TAG)
_IDENTIFIER = re.compile(r"[a-f0-9]{64}")


class InvalidReference(InvalidParameter):
    """The text is no reference; the message is the reference package's."""


@dataclass(frozen=True, slots=True)
class Reference:
    """A valid, normalized reference. `path` has no domain; `tag` and `digest` may both be there, then the digest decides."""

    domain: str
    path: str
    tag: str | None = None
    digest: Digest | None = None

    @property
    def name(self) -> str:
        """`docker.io/library/busybox`"""
        return f"{self.domain}/{self.path}" if self.domain else self.path

    @property
    def familiar_name(self) -> str:
        """`busybox`"""
        if self.domain != DEFAULT_DOMAIN:
            return self.name
        official = self.path.removeprefix(_OFFICIAL)
        return self.path if "/" in official else official

    @property
    def canonical(self) -> str:
        """`docker.io/library/busybox:latest`"""
        return self.name + self._suffix

    @property
    def familiar(self) -> str:
        """`busybox:latest`"""
        return self.familiar_name + self._suffix

    @property
    def is_name_only(self) -> bool:
        return self.tag is None and self.digest is None

    def with_default_tag(self) -> Reference:
        """This reference, with tag `latest` if it has neither tag nor digest."""
        return replace(self, tag=DEFAULT_TAG) if self.is_name_only else self

    def with_tag(self, tag: str) -> Reference:
        """The same name with `tag`. Raises `InvalidReference`."""
        if _TAG_ALONE.fullmatch(tag) is None:
            raise InvalidReference("invalid tag format")
        return replace(self, tag=tag)

    def with_digest(self, digest: Digest) -> Reference:
        """The same name pointing at `digest`."""
        return replace(self, digest=digest)

    def without_tag(self) -> Reference:
        return replace(self, tag=None)

    def matches(self, pattern: str) -> bool:
        """Whether the familiar or the canonical spelling, with or without the tag, matches the shell pattern `pattern`.

        Raises `InvalidPattern`. docker: daemon/containerd/image_list.go, setupFilters.
        """
        spellings = (self.familiar, self.familiar_name, self.with_default_tag().canonical, self.name)
        return any(matches_pattern(pattern, spelling) for spelling in spellings)

    def __str__(self) -> str:
        return self.familiar

    @property
    def _suffix(self) -> str:
        tag = f":{self.tag}" if self.tag is not None else ""
        return f"{tag}@{self.digest}" if self.digest is not None else tag


def parse_reference(text: str) -> Reference:
    """Parse a name in any spelling people use. Raises `InvalidReference` or `InvalidDigest`."""
    if _IDENTIFIER.fullmatch(text) is not None:
        raise InvalidReference(f"invalid repository name ({text}), cannot specify 64-byte hexadecimal strings")
    domain, remainder = _split_domain(text)
    path = remainder.partition(":")[0]
    if path.lower() != path:
        raise InvalidReference(f"invalid reference format: repository name ({path}) must be lowercase")
    return _parse_canonical(f"{domain}/{remainder}")


def parse_reference_or_id(text: str) -> Reference | Digest:
    """Parse what may also be an image id: 64 hex digits or a whole digest. Raises `InvalidReference` or `InvalidDigest`."""
    if _IDENTIFIER.fullmatch(text) is not None:
        return Digest(f"sha256:{text}")
    return find_digest(text) or parse_reference(text)


def repository_and_tag(repository: str, tag: str) -> Reference | None:
    """The reference that the API's parameters `repo` and `tag` spell together; None without a repository. Raises `InvalidReference`."""
    if not repository:
        return None
    reference = parse_reference(repository)
    if reference.digest is not None:
        raise InvalidReference("cannot import digest reference")
    return reference.with_tag(tag) if tag else reference.with_default_tag()


def _parse_canonical(text: str) -> Reference:
    match = _REFERENCE.fullmatch(text)
    if match is None:
        if _REFERENCE.fullmatch(text.lower()) is not None:
            raise InvalidReference("repository name must be lowercase")
        raise InvalidReference("invalid reference format")
    domain, path, tag, digest = match.groups()
    if len(path) > _MAX_PATH_CHARACTERS:
        raise InvalidReference(f"repository name must not be more than {_MAX_PATH_CHARACTERS} characters")
    # A first component that looks like a domain but is none (`a_b.c/d`) is part of the path; such a name has no domain.
    return Reference((domain or "").removesuffix("/"), path, tag, _digest(digest))


def _digest(text: str | None) -> Digest | None:
    try:
        return Digest(text) if text is not None else None
    except InvalidDigest as error:
        raise InvalidReference(error.message) from error


def _split_domain(text: str) -> tuple[str, str]:
    """The domain, default or given, and the rest of `name`. docker: a first component without dot, colon or capitals is no domain."""
    first, slash, rest = text.partition("/")
    if not slash:
        return DEFAULT_DOMAIN, _OFFICIAL + text
    if first == _LEGACY_DOMAIN:
        domain, remainder = DEFAULT_DOMAIN, rest
    elif first == "localhost" or "." in first or ":" in first or first.lower() != first:
        domain, remainder = first, rest
    else:
        domain, remainder = DEFAULT_DOMAIN, text
    if domain == DEFAULT_DOMAIN and "/" not in remainder:
        remainder = _OFFICIAL + remainder
    return domain, remainder
