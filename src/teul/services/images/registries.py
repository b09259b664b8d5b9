"""What clients ask of registries without an image: whether credentials are good, what a name stands for there, and what there is."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass

from teul.errors import System, TeulError
from teul.model.filter import Filters
from teul.oci.descriptor import Descriptor
from teul.oci.digest import Digest
from teul.oci.documents import InvalidDocument, decode_index, decode_lenient, decode_manifest
from teul.oci.platform import Platform
from teul.oci.reference import parse_reference_or_id
from teul.registry.client.registry_client import RegistryClient
from teul.registry.client.repository import Repository
from teul.registry.client.searches import SearchResult
from teul.registry.client.web_files import WebFile, parse_web_address
from teul.registry.credentials import ANONYMOUS, Credentials, decode_auth_config, decode_registry_auth
from teul.registry.errors import BadAnswer, InvalidRegistryAuth, NotInRegistry, Refused, RegistryError
from teul.services.images.assemble import describe, leads_to_index
from teul.services.images.search import parse_search


class RefusedByRegistry(TeulError):
    """A registry's refusal that its client is to see as it is; `code` is one of the distribution-spec's, "" if it named none."""

    def __init__(self, refused: Refused) -> None:
        super().__init__(refused.message)
        self.code = refused.code


@dataclass(frozen=True, slots=True)
class InRegistry:
    """What a name stands for in a registry. `platforms` is None where they cannot be told."""

    descriptor: Descriptor
    platforms: Sequence[Platform] | None


class RemoteRegistries:
    """Questions to registries. One instance per engine."""

    def __init__(self, client: RegistryClient) -> None:
        self._client = client

    async def login(self, auth_config: bytes) -> str:
        """Check credentials. Returns the identity token that takes the password's place, or "". Raises what `RegistryClient.login` does."""
        return await self._client.login(decode_auth_config(auth_config))

    def open_web_file(self, source: str) -> AbstractAsyncContextManager[WebFile]:
        """The file that the URL `source` names, to be imported.

        Raises InvalidParameter for what is no URL; NotFound, Unauthorized and Forbidden if its server says so; Remote for other trouble.
        """
        return self._client.open_web_file(parse_web_address(source))

    async def inspect(self, name: str, auth_header: str) -> InRegistry:
        """What `name` stands for. Raises `RefusedByRegistry`, and whatever else a `Repository` does."""
        reference = parse_reference_or_id(name)
        if isinstance(reference, Digest):
            raise System("no manifest found for full image ID")
        repository = await self._client.repository(reference, lenient_credentials(auth_header))
        try:
            found = await repository.resolve()
            data = await repository.fetch_manifest(found)
            # docker: what the document says of itself counts more than what the registry says of it.
            descriptor = describe(found.digest, data)
            return InRegistry(descriptor, await _platforms(repository, descriptor, data))
        except NotInRegistry as error:
            # docker: only a pull's errors are told in the words of the docker command.
            if isinstance(error.__cause__, Refused):
                raise RefusedByRegistry(error.__cause__) from error
            raise
        except Refused as error:
            raise RefusedByRegistry(error) from error
        except InvalidDocument as error:
            raise BadAnswer(error.message) from error

    async def search(self, term: str, filters: Filters, auth_header: str, *, limit: int) -> list[SearchResult]:
        """What the registry before `term`, or Docker Hub, finds for it; `limit` is the most that it is asked for, 0 for dockerd's own.

        Raises InvalidParameter, and what `RegistryClient.search` does.
        """
        wanted = parse_search(term, filters, limit=limit)
        if wanted.wants_automated:
            return []
        found = await self._client.search(wanted.host, wanted.term, lenient_credentials(auth_header), limit=wanted.limit)
        return [result for result in found if wanted.accepts(result)]


def lenient_credentials(header: str) -> Credentials:
    """The credentials in an `X-Registry-Auth` header. docker: one that cannot be read counts as none."""
    try:
        return decode_registry_auth(header)
    except InvalidRegistryAuth:
        return ANONYMOUS


def push_credentials(header: str, body: bytes) -> Credentials:
    """The credentials of a push: old clients send them in the body. Raises `InvalidRegistryAuth` if they are in neither."""
    if header:
        return lenient_credentials(header)
    try:
        return decode_auth_config(body)
    except InvalidRegistryAuth as error:
        raise InvalidRegistryAuth(f"bad parameters and missing X-Registry-Auth: {error.message}") from None


async def _platforms(repository: Repository, descriptor: Descriptor, data: bytes) -> Sequence[Platform] | None:
    """docker: of an index as it says, of a manifest as its config says, if that can be had."""
    if leads_to_index(descriptor, data):
        return [child.platform or Platform() for child in decode_index(data).manifests]
    try:
        platform = decode_lenient(await repository.fetch_config(decode_manifest(data).config), Platform, "image config")
    except (RegistryError, InvalidDocument):
        return None
    return [platform] if platform.os or platform.architecture else None
