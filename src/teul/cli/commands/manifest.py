"""`teul manifest inspect`: a manifest or an index as its registry has it. No engine is asked, as with docker.

docker: cli/command/manifest. Lists of manifests that are put together on this machine (`create`, `annotate`, `push`, `rm`) there are none.
"""

from __future__ import annotations

import base64

from teul.cli.command import Command
from teul.cli.errors import CliError
from teul.cli.options.parser import BOOL, Option
from teul.cli.registry.transfer import known_credentials, named
from teul.errors import TeulError
from teul.wire.jsontext import encode, reindent, render

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from teul.cli.context import Context
    from teul.cli.options.parser import Options
    from teul.registry.client.inspection import FoundManifest

_OCI_INDEX, _DOCKER_INDEX = "application/vnd.oci.image.index.v1+json", "application/vnd.docker.distribution.manifest.list.v2+json"
_OCI_MANIFEST = "application/vnd.oci.image.manifest.v1+json"
# docker: Go escapes in JSON what would be markup in a page.
_ESCAPES = str.maketrans({"<": "\\u003c", ">": "\\u003e", "&": "\\u0026", "\u2028": "\\u2028", "\u2029": "\\u2029"})


def inspect(context: Context, options: Options, arguments: list[str]) -> int:
    from asyncio import run

    from teul.registry.client import inspection

    reference = named(arguments[-1]).with_default_tag()
    if len(arguments) > 1:
        named(arguments[0])
        # docker: of a list that was put together here; Teul keeps none.
        raise CliError(f"No such manifest: {reference.canonical}")
    account = encode(known_credentials(context, reference.domain).document())
    try:
        found = run(inspection.inspect(reference, account, insecure=options.flag("insecure"), environment=context.environment))
    except TeulError as error:
        raise CliError(error.message) from None
    if options.flag("verbose"):
        documents = [_verbose(manifest) for manifest in found.manifests]
        context.streams.print(reindent(f"[{','.join(documents)}]" if found.is_index else documents[0], "\t"))
    elif found.is_index:
        context.streams.print(_index(found.manifests))
    else:
        context.streams.print(reindent(found.manifests[0].data.decode("utf-8", "surrogateescape"), "\t"))
    return 0


def _verbose(found: FoundManifest) -> str:
    descriptor = _descriptor(found) | {"platform": _platform(found)}
    head = render({"Ref": found.reference.canonical, "Descriptor": descriptor, "Raw": base64.b64encode(found.data).decode()})
    name = "OCIManifest" if found.is_oci else "SchemaV2Manifest"
    whole = f'{head[:-1]},"{name}":{found.data.decode("utf-8", "replace")}}}'
    return whole.translate(_ESCAPES)


def _index(manifests: tuple[FoundManifest, ...]) -> str:
    """docker: not the index that the registry has, but one of the same manifests, of the type of the first of them."""
    is_oci = bool(manifests) and manifests[0].descriptor.media_type == _OCI_MANIFEST
    entries = [_descriptor(found, size_first=True) | {"platform": _platform(found)} for found in manifests]
    document = {"schemaVersion": 2, "mediaType": _OCI_INDEX if is_oci else _DOCKER_INDEX, "manifests": entries}
    return render(document, indent="   ").translate(_ESCAPES)


def _descriptor(found: FoundManifest, *, size_first: bool = False) -> dict[str, Any]:
    """docker: two types for the same thing, with their members in different orders."""
    size, digest = {"size": found.descriptor.size_bytes}, {"digest": str(found.descriptor.digest)}
    return {"mediaType": found.descriptor.media_type} | (size | digest if size_first else digest | size)


def _platform(found: FoundManifest) -> dict[str, Any]:
    platform = found.platform
    optional = {"os.version": platform.os_version, "os.features": platform.os_features, "variant": platform.variant}
    return {"architecture": platform.architecture, "os": platform.os} | {name: value for name, value in optional.items() if value}


def _not_there(context: Context, _options: Options, _arguments: list[str]) -> int:
    raise CliError(
        f"{context.program} puts no lists of manifests together: of `manifest` there is `inspect` only.\n"
        "What `docker manifest` does it does by itself, without an engine, and so in the same way beside Teul."
    )


INSPECT = Command(
    "inspect [OPTIONS] [MANIFEST_LIST] MANIFEST",
    "Display an image manifest, or manifest list",
    inspect,
    options=(
        Option("insecure", BOOL, "Allow communication with an insecure registry"),
        Option("verbose", BOOL, "Output additional info including layers and platform", short="v"),
    ),
    minimum=1,
    maximum=2,
)
ANNOTATE = Command("annotate", "Add additional information to a local image manifest", _not_there, raw=True)
CREATE = Command("create", "Create a local manifest list for annotating and pushing to a registry", _not_there, raw=True)
PUSH = Command("push", "Push a manifest list to a repository", _not_there, raw=True)
REMOVE = Command("rm", "Delete one or more manifest lists from local storage", _not_there, raw=True)
