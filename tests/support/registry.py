"""A registry for tests, on loopback: as much of OCI's distribution-spec as clients use, and every lie that a hostile one may tell.

What it does and how it misbehaves are the fields of its `Behaviour`, which a test sets before or while it is asked. Within the test's own
loop: `async with FakeRegistry() as registry`. For an engine in another process: `with serving(registry)`, which has a thread of its own.
"""

from __future__ import annotations

import asyncio
import base64
import json
import re
import secrets
import threading
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from ssl import SSLContext
from types import TracebackType
from typing import Self

from aiohttp import web

from support.images import Image, compress
from teul.oci.descriptor import OCI_CONFIG, OCI_INDEX, OCI_LAYER, OCI_MANIFEST, Descriptor
from teul.oci.digest import Digest

USERNAME, PASSWORD, IDENTITY = "gildong", "open sesame", "identity-of-gildong"
_NAME = r"{name:[a-z0-9._/-]+}"
_CHUNK = 64 * 1024


@dataclass
class Behaviour:
    """How the registry is. The counters go down to nothing as they are used."""

    auth: str = ""  # "basic" or "token"
    realm: str = ""  # instead of its own token server
    gives_identity: bool = False
    token_seconds: int | None = None
    token_body: bytes | None = None
    anonymous_is_denied: bool = False
    always_unauthorized: bool = False
    forgets_tokens: bool = False  # each token is good for one request

    supports_head: bool = True
    supports_referrers: bool = True
    ignores_range: bool = False
    hides_digest: bool = False
    hides_length: bool = False
    error: tuple[int, str, bytes] | None = None  # status, content type, body; to every request below /v2/NAME/
    refusals: int = 0  # so many answers are refusals with the next status
    refusal_status: int = 503
    retry_after: str | None = None

    wrong_digest: bool = False
    wrong_size: int = 0  # so many bytes are missing, and declared to be
    ends_early: bool = False
    endless: bool = False
    redirect_loop: bool = False
    redirect_blobs_to: str = ""
    cuts: list[int] = field(default_factory=list)  # each answer with a blob's bytes ends like a broken line after so many of them

    search_body: bytes | None = None  # instead of what is found

    page_items: int = 0
    next_link: str | None = None
    upload_location: str | None = None
    chunk_min_length: int = 0
    mounts: bool = True
    upload_cuts: int = 0  # so many uploads of bytes are cut off


@dataclass(frozen=True)
class Seen:
    """A request as it came."""

    method: str
    path: str
    query: str
    headers: dict[str, str]


class FakeRegistry:
    """A registry at `host`. `blobs`, `manifests` (media type and bytes, by digest) and `tags` are what it stores, by repository.

    Whoever is anonymous gets tokens for pulling only.
    """

    def __init__(self, *, tls: SSLContext | None = None, address: str = "127.0.0.1", behaviour: Behaviour | None = None) -> None:
        self.behaviour = behaviour or Behaviour()
        self.blobs: dict[str, dict[str, bytes]] = {}
        self.manifests: dict[str, dict[str, tuple[str, bytes]]] = {}
        self.tags: dict[str, dict[str, str]] = {}
        self.seen: list[Seen] = []
        self.token_requests: list[dict[str, list[str]]] = []
        self.repositories: list[dict[str, object]] = []  # what is searched, by `name`
        self.host = ""
        self._tls = tls
        self._address = address
        self.tokens: dict[str, bool] = {}  # whether they are good for pushing too
        self._uploads: dict[str, bytearray] = {}
        self._runner: web.AppRunner | None = None

    @property
    def scheme(self) -> str:
        return "http" if self._tls is None else "https"

    @property
    def url(self) -> str:
        return f"{self.scheme}://{self.host}"

    async def __aenter__(self) -> Self:
        app = web.Application(middlewares=[self._gate], client_max_size=1 << 30)
        app.add_routes(
            [
                web.get("/v2/", self._ping),
                web.get("/v1/_ping", self._ping),
                web.get("/v1/search", self._search),
                web.route("*", "/token", self._token),
                web.route("*", "/loop/{step}", self._loop),
                web.route("*", f"/v2/{_NAME}/manifests/{{reference}}", self._manifest),
                web.post(f"/v2/{_NAME}/blobs/uploads/", self._start_upload),
                web.route("*", f"/v2/{_NAME}/blobs/uploads/{{upload}}", self._upload),
                web.route("*", f"/v2/{_NAME}/blobs/{{digest}}", self._blob),
                web.get(f"/v2/{_NAME}/tags/list", self._tags),
                web.get(f"/v2/{_NAME}/referrers/{{digest}}", self._referrers),
            ]
        )
        self._runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
        await self._runner.setup()
        site = web.TCPSite(self._runner, self._address, 0, ssl_context=self._tls)
        await site.start()
        self.host = f"{self._address}:{self._runner.addresses[0][1]}"
        return self

    async def __aexit__(self, exc_type: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None) -> None:
        assert self._runner is not None
        await self._runner.cleanup()

    def add_blob(self, name: str, data: bytes, media_type: str = OCI_LAYER) -> Descriptor:
        digest = Digest.of(data)
        self.blobs.setdefault(name, {})[str(digest)] = data
        return Descriptor(media_type=media_type, digest=digest, size_bytes=len(data))

    def add_manifest(self, name: str, data: bytes, media_type: str, tag: str = "") -> Descriptor:
        digest = Digest.of(data)
        self.manifests.setdefault(name, {})[str(digest)] = (media_type, data)
        if tag:
            self.tags.setdefault(name, {})[tag] = str(digest)
        return Descriptor(media_type=media_type, digest=digest, size_bytes=len(data))

    def requests(self, method: str, part: str = "") -> list[Seen]:
        """The requests with `method` whose path has `part`."""
        return [seen for seen in self.seen if seen.method == method and part in seen.path]

    @web.middleware
    async def _gate(self, request: web.Request, handler: Callable[[web.Request], Awaitable[web.StreamResponse]]) -> web.StreamResponse:
        """What every request meets before it is looked at."""
        self.seen.append(Seen(request.method, request.path, request.rel_url.raw_query_string, dict(request.headers)))
        refused = self._refuse(request)
        return refused if refused is not None else await handler(request)

    def _refuse(self, request: web.Request) -> web.Response | None:
        behaviour = self.behaviour
        if request.path.startswith("/token"):
            return None
        if behaviour.redirect_loop and request.path != "/v2/" and request.path.startswith("/v2/"):
            return web.Response(status=307, headers={"Location": "/loop/1"})
        if request.path.startswith("/v2/") and (denied := self._unauthorized(request)) is not None:
            return denied
        if request.path == "/v2/" or not request.path.startswith("/v2/"):
            return None
        if behaviour.refusals:
            behaviour.refusals -= 1
            headers = {"Retry-After": behaviour.retry_after} if behaviour.retry_after is not None else {}
            return _error(behaviour.refusal_status, "TOOMANYREQUESTS", "slow down", headers=headers)
        if behaviour.error is not None:
            status, content_type, body = behaviour.error
            return web.Response(status=status, body=body, headers={"Content-Type": content_type} if content_type else {})
        return None

    def _unauthorized(self, request: web.Request) -> web.Response | None:
        behaviour = self.behaviour
        shown = request.headers.get("Authorization", "")
        if behaviour.auth == "basic":
            good = shown == "Basic " + base64.b64encode(f"{USERNAME}:{PASSWORD}".encode()).decode()
            challenge = 'Basic realm="fake"'
        elif behaviour.auth == "token":
            token = shown.removeprefix("Bearer ")
            challenge = f'Bearer realm="{behaviour.realm or self.url + "/token"}",service="fake"'
            may_push = self.tokens.get(token)
            good = may_push is not None and (may_push or request.method in {"GET", "HEAD"})
            if may_push is not None and not good:
                challenge += ',error="insufficient_scope"'
            if behaviour.forgets_tokens:
                self.tokens.pop(token, None)
        else:
            good, challenge = True, 'Basic realm="fake"'
        if good and not (behaviour.always_unauthorized and request.path != "/v2/"):
            return None
        detail = [{"Type": "repository"}]
        return _error(401, "UNAUTHORIZED", "authentication required", detail=detail, headers={"WWW-Authenticate": challenge})

    async def _ping(self, request: web.Request) -> web.Response:
        return web.json_response({})

    async def _search(self, request: web.Request) -> web.Response:
        """docker: no challenge comes before it; who needs a password says so with a status."""
        if self.behaviour.auth and (denied := self._unauthorized(request)) is not None:
            return denied
        if self.behaviour.search_body is not None:
            return web.Response(body=self.behaviour.search_body, content_type="application/json")
        if self.behaviour.error is not None:
            return web.Response(status=self.behaviour.error[0], body=self.behaviour.error[2])
        term = request.query["q"]
        found = [it for it in self.repositories if term in str(it["name"])][: int(request.query["n"])]
        return web.json_response({"query": term, "num_results": len(found), "results": found})

    async def _loop(self, request: web.Request) -> web.Response:
        return web.Response(status=307, headers={"Location": f"/loop/{int(request.match_info['step']) + 1}"})

    async def _token(self, request: web.Request) -> web.Response:
        form = await request.post()
        asked = request.query if request.method == "GET" else form
        self.token_requests.append({key: [str(value) for value in asked.getall(key)] for key in asked})
        if self.behaviour.token_body is not None:
            return web.Response(body=self.behaviour.token_body, content_type="application/json")
        shown = request.headers.get("Authorization")
        if request.method == "POST":
            good = form.get("refresh_token") == IDENTITY
        elif shown is None:
            good = not self.behaviour.anonymous_is_denied
        else:
            good = shown == "Basic " + base64.b64encode(f"{USERNAME}:{PASSWORD}".encode()).decode()
        if not good:
            return web.json_response({"details": "incorrect username or password"}, status=401)
        token = secrets.token_hex(8)
        self.tokens[token] = request.method == "POST" or shown is not None
        answer: dict[str, object] = {"token": token}
        if self.behaviour.token_seconds is not None:
            answer["expires_in"] = self.behaviour.token_seconds
        if self.behaviour.gives_identity and request.query.get("offline_token") == "true":
            answer["refresh_token"] = IDENTITY
        return web.json_response(answer)

    async def _manifest(self, request: web.Request) -> web.StreamResponse:
        name, reference = request.match_info["name"], request.match_info["reference"]
        stored = self.manifests.setdefault(name, {})
        tags = self.tags.setdefault(name, {})
        if request.method == "PUT":
            data = await request.read()
            digest = str(Digest.of(data))
            stored[digest] = (request.headers["Content-Type"], data)
            if ":" not in reference:
                tags[reference] = digest
            headers = {"Location": f"/v2/{name}/manifests/{digest}", "Docker-Content-Digest": digest}
            return web.Response(status=201, headers=headers)
        if request.method == "HEAD" and not self.behaviour.supports_head:
            return web.Response(status=405)
        digest = reference if ":" in reference else tags.get(reference, "")
        if digest not in stored:
            return _error(404, "MANIFEST_UNKNOWN", "manifest unknown", detail={"Tag": reference})
        media_type, data = stored[digest]
        headers = {"Content-Type": media_type} | ({} if self.behaviour.hides_digest else {"Docker-Content-Digest": digest})
        return web.Response(body=_corrupt(data) if self.behaviour.wrong_digest else data, headers=headers)

    async def _blob(self, request: web.Request) -> web.StreamResponse:
        behaviour = self.behaviour
        name, digest = request.match_info["name"], request.match_info["digest"]
        data = self.blobs.get(name, {}).get(digest)
        if data is None:
            return _error(404, "BLOB_UNKNOWN", "blob unknown to registry", detail=digest)
        if behaviour.redirect_blobs_to:
            return web.Response(status=307, headers={"Location": f"{behaviour.redirect_blobs_to}{request.path}?signature=x%2Fy"})
        if behaviour.wrong_digest:
            data = _corrupt(data)
        size = len(data)
        if behaviour.wrong_size:
            data = data[: -behaviour.wrong_size]
        start, status = 0, 200
        asked = re.fullmatch(r"bytes=(\d+)-(\d*)", request.headers.get("Range", ""))
        headers = {"Content-Type": "application/octet-stream", "Docker-Content-Digest": digest}
        if asked is not None and not behaviour.ignores_range:
            start, status = int(asked[1]), 206
            headers["Content-Range"] = f"bytes {start}-{size - 1}/{size}"
        response = web.StreamResponse(status=status, headers=headers)
        if behaviour.endless or behaviour.ends_early or behaviour.hides_length:
            response.enable_chunked_encoding()
        else:
            response.content_length = len(data) - start
        await response.prepare(request)
        if request.method == "HEAD":
            return response
        await self._send(request, response, data[start:])
        return response

    async def _send(self, request: web.Request, response: web.StreamResponse, data: bytes) -> None:
        cut = self.behaviour.cuts.pop(0) if self.behaviour.cuts else None
        if self.behaviour.ends_early:
            data = data[: len(data) // 2]
        try:
            for position in range(0, len(data[:cut]), _CHUNK):
                await response.write(data[:cut][position : position + _CHUNK])
            while self.behaviour.endless:
                await response.write(bytes(_CHUNK))
        except ConnectionError:
            return  # the client has had enough
        if cut is not None and request.transport is not None:
            request.transport.close()

    async def _start_upload(self, request: web.Request) -> web.StreamResponse:
        name = request.match_info["name"]
        digest, source = request.query.get("mount", ""), request.query.get("from", "")
        if self.behaviour.mounts and digest in self.blobs.get(source, {}):
            self.blobs.setdefault(name, {})[digest] = self.blobs[source][digest]
            return web.Response(status=201, headers={"Location": f"/v2/{name}/blobs/{digest}", "Docker-Content-Digest": digest})
        upload = secrets.token_hex(8)
        self._uploads[upload] = bytearray()
        location = self.behaviour.upload_location or f"/v2/{name}/blobs/uploads/{upload}?_state=a%2Fb%3D"
        headers = {"Location": location.replace("UPLOAD", upload), "Range": "0-0"}
        if self.behaviour.chunk_min_length:
            headers["OCI-Chunk-Min-Length"] = str(self.behaviour.chunk_min_length)
        return web.Response(status=202, headers=headers)

    async def _upload(self, request: web.Request) -> web.StreamResponse:
        name, upload = request.match_info["name"], request.match_info["upload"]
        taken = self._uploads.get(upload)
        if taken is None:
            return _error(404, "BLOB_UPLOAD_UNKNOWN", "blob upload unknown to registry")
        if request.method == "DELETE":
            del self._uploads[upload]
            return web.Response(status=204)
        if request.method in {"PATCH", "PUT"} and not await self._take(request, taken):
            return web.Response(status=416)
        if request.method == "PUT":
            digest = request.query["digest"]
            if str(Digest.of(bytes(taken))) != digest:
                return _error(400, "DIGEST_INVALID", "provided digest did not match uploaded content", detail={"digest": digest})
            self.blobs.setdefault(name, {})[digest] = bytes(self._uploads.pop(upload))
            return web.Response(status=201, headers={"Location": f"/v2/{name}/blobs/{digest}", "Docker-Content-Digest": digest})
        status = 204 if request.method == "GET" else 202
        headers = {"Location": f"{request.path}?{request.rel_url.raw_query_string}", "Range": f"0-{max(0, len(taken) - 1)}"}
        return web.Response(status=status, headers=headers)

    async def _take(self, request: web.Request, taken: bytearray) -> bool:
        """Add the bytes of a request to an upload; False if they are not those that come next."""
        declared = re.fullmatch(r"(\d+)-(\d+)", request.headers.get("Content-Range", ""))
        if declared is not None and int(declared[1]) != len(taken):
            return False
        async for chunk in request.content.iter_chunked(_CHUNK):
            if self.behaviour.upload_cuts and len(taken) >= _CHUNK:
                self.behaviour.upload_cuts -= 1
                assert request.transport is not None
                request.transport.abort()
                raise ConnectionResetError
            taken += chunk
        return True

    async def _tags(self, request: web.Request) -> web.StreamResponse:
        name = request.match_info["name"]
        if name not in self.tags:
            return _error(404, "NAME_UNKNOWN", "repository name not known to registry", detail={"name": name})
        tags = sorted(self.tags[name])
        number = self.behaviour.page_items or int(request.query.get("n", "1000"))
        rest = [tag for tag in tags if tag > request.query.get("last", "")]
        headers = {}
        if len(rest) > number or self.behaviour.next_link is not None:
            link = self.behaviour.next_link or f"/v2/{name}/tags/list?n={number}&last={rest[number - 1]}"
            headers["Link"] = f'<{link}>; rel="next"'
        return web.json_response({"name": name, "tags": rest[:number]}, headers=headers)

    async def _referrers(self, request: web.Request) -> web.StreamResponse:
        if not self.behaviour.supports_referrers:
            return web.Response(status=404, text="404 page not found\n")
        digest = request.match_info["digest"]
        found = []
        for own, (media_type, data) in self.manifests.get(request.match_info["name"], {}).items():
            document = json.loads(data)
            if document.get("subject", {}).get("digest") == digest:
                found.append({"mediaType": media_type, "digest": own, "size": len(data), "artifactType": document.get("artifactType", "")})
        index = {"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": found}
        return web.Response(body=json.dumps(index).encode(), content_type=OCI_INDEX)


def _error(status: int, code: str, message: str, *, detail: object = None, headers: dict[str, str] | None = None) -> web.Response:
    return web.json_response({"errors": [{"code": code, "message": message, "detail": detail}]}, status=status, headers=headers)


def _corrupt(data: bytes) -> bytes:
    return bytes([data[0] ^ 1]) + data[1:]


def stock(registry: FakeRegistry, image: Image, name: str) -> list[str]:
    """Put the image into the registry, its layers compressed, with the tag 1; the digests of its layers."""
    config = registry.add_blob(name, image.image_config, OCI_CONFIG)
    layers = [registry.add_blob(name, compress(layer, "gzip"), f"{OCI_LAYER}+gzip") for layer in image.layers]
    described = [{"mediaType": it.media_type, "digest": str(it.digest), "size": it.size_bytes} for it in (config, *layers)]
    manifest = {"schemaVersion": 2, "mediaType": OCI_MANIFEST, "config": described[0], "layers": described[1:]}
    registry.add_manifest(name, json.dumps(manifest).encode(), OCI_MANIFEST, "1")
    return [str(layer.digest) for layer in layers]


@contextmanager
def serving(registry: FakeRegistry) -> Iterator[FakeRegistry]:
    """`registry`, served by a thread of its own for as long as the block lasts."""
    loop = asyncio.new_event_loop()
    ready, stop = threading.Event(), asyncio.Event()

    async def serve() -> None:
        async with registry:
            ready.set()
            await stop.wait()

    thread = threading.Thread(target=loop.run_until_complete, args=(serve(),), name="registry")
    thread.start()
    try:
        assert ready.wait(10), "the registry does not start"
        yield registry
    finally:
        loop.call_soon_threadsafe(stop.set)
        thread.join()
        loop.close()
