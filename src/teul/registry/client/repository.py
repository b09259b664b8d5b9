"""A repository in a registry, as the engine pulls from it and pushes to it."""

from __future__ import annotations

from teul.oci.descriptor import Descriptor
from teul.oci.digest import Digest
from teul.oci.documents import MAX_DOCUMENT_BYTES
from teul.oci.reference import Reference
from teul.registry.backoff import OnWait
from teul.registry.client import blobs, listings, manifests, uploads
from teul.registry.client.blobs import BlobStream
from teul.registry.client.exchange import Exchange
from teul.registry.client.session import EndpointSession
from teul.registry.client.uploads import CHUNK_BYTES, BlobSource, UploadMode
from teul.registry.errors import ContentMismatch, RegistryError, Unreachable, pulling, transferring


class Repository:
    """The repository of `reference`; made by `RegistryClient.repository`, good for one pull or push, by any number of tasks at once.

    Everything may raise `RegistryError` (`Refused`, `ConnectionFailed`, `BadAnswer`, `AuthenticationFailed`) and `ContentMismatch`; what
    only a pull does, `NotInRegistry` too. All of it can be cancelled and done again.
    """

    def __init__(self, exchange: Exchange, reference: Reference) -> None:
        self.reference = reference
        self._exchange = exchange

    def telling(self, on_wait: OnWait) -> Repository:
        """This repository, whose waits before something is tried again are told to `on_wait`."""
        return Repository(self._exchange.telling(on_wait), self.reference)

    async def meet(self) -> None:
        """Find out where the registry is to be spoken to, without asking it for anything. Raises `Unreachable` if nowhere."""
        await self._exchange.run(lambda session: session.meet())

    async def resolve(self, name: str | Digest | None = None) -> Descriptor:
        """The descriptor of the manifest or index that a tag or digest names; by default the one that the reference names.

        What came as a digest is that digest; a tag's is what the registry says, and holds once `fetch_manifest` has verified it.
        """
        reference = self.reference.with_default_tag()
        if name is None:
            name = reference.digest or reference.tag or ""
        elif isinstance(name, Digest):
            reference = reference.without_tag().with_digest(name)
        else:
            reference = self.reference.with_tag(name)
        wanted = name
        with pulling(reference):
            return await self._exchange.run(lambda session: manifests.resolve(session, self._exchange.path, wanted))

    async def fetch_manifest(self, descriptor: Descriptor) -> bytes:
        """The bytes of a manifest or an index of 4 MiB at most, verified against digest and size."""
        with pulling(self.reference):
            return await self._exchange.run(lambda session: manifests.fetch(session, self._exchange.path, descriptor))

    async def fetch_config(self, descriptor: Descriptor) -> bytes:
        """The bytes of an image's config, verified against digest and size."""
        attempts = 0

        async def fetch(session: EndpointSession) -> bytes:
            nonlocal attempts
            attempts += 1
            return await blobs.fetch(session, self._exchange.path, descriptor, MAX_DOCUMENT_BYTES)

        try:
            with transferring():
                return await self._exchange.run(fetch)
        except Unreachable:
            raise
        except RegistryError as error:
            # docker: distribution/pull_v2.go, retry, which counts one too many when it gives up; and this is no 404, whatever was refused.
            told = attempts + 1 if attempts >= self._exchange.backoff.attempts else attempts
            raise RegistryError(f"error pulling image configuration: download failed after attempts={told}: {error.message}") from error
        except ContentMismatch as error:
            raise ContentMismatch(f"error pulling image configuration: {error.message}") from error

    def open_blob(self, descriptor: Descriptor, *, offset: int = 0, verify: bool = True) -> BlobStream:
        """The bytes of a blob from `offset` on: `async with repository.open_blob(…) as chunks: async for chunk in chunks`.

        Goes on by itself where a connection breaks. `verify=False` leaves the digest to the caller, as an offset must. Nothing happens
        before the first chunk is asked for. Raises `ContentMismatch` at the end if the bytes are not those of the digest.
        """
        return BlobStream(self._exchange, self.reference, descriptor, offset=offset, verify=verify)

    async def blob_exists(self, descriptor: Descriptor) -> bool:
        """Whether the registry says that it has the blob; it has to be uploaded otherwise, whatever the reason."""
        with transferring():
            return await self._exchange.run(lambda session: blobs.exists(session, self._exchange.path, descriptor))

    async def mount_blob(self, digest: Digest, from_repository: Reference) -> bool:
        """Take a blob from another repository of the same registry; False if the registry will not, and the blob is to be uploaded."""
        if from_repository.domain != self.reference.domain:
            return False
        with transferring():
            return await self._exchange.run(lambda session: uploads.mount(session, self._exchange.path, digest, from_repository.path))

    async def upload_blob(
        self,
        descriptor: Descriptor,
        open_source: BlobSource,
        *,
        mode: UploadMode = UploadMode.STREAM,
        chunk_bytes: int = CHUNK_BYTES,
    ) -> None:
        """Store a blob. `open_source(offset)` gives its bytes from there on, again for every attempt.

        Whoever wants to know how far it is counts there.
        """
        with transferring():
            await uploads.upload(self._exchange, descriptor, open_source, mode=mode, chunk_bytes=chunk_bytes)

    async def put_manifest(self, name: str | Digest, media_type: str, data: bytes) -> Descriptor:
        """Store a manifest or an index, whose blobs are there, under a tag or its digest. Returns its descriptor."""
        return await self._exchange.run(lambda session: manifests.put(session, self._exchange.path, name, media_type, data))

    async def list_tags(self) -> list[str]:
        """All tags, in the registry's order."""
        with pulling(self.reference):
            return await self._exchange.run(lambda session: listings.tags(session, self._exchange.path))

    async def referrers(self, digest: Digest, artifact_type: str | None = None) -> list[Descriptor]:
        """What refers to the manifest `digest`: signatures, attestations. Empty where nothing does."""
        with pulling(self.reference):
            return await self._exchange.run(lambda session: listings.referrers(session, self._exchange.path, digest, artifact_type))
