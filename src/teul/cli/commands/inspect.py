"""`teul inspect`, `container inspect` and `image inspect`."""

from __future__ import annotations

from teul.cli.command import Command
from teul.cli.errors import CliError
from teul.cli.format.listing import INSPECT_FORMAT_HELP
from teul.cli.options.image import platform_document
from teul.cli.options.parser import BOOL, Option
from teul.client.api import container_path, image_path, quote
from teul.client.errors import ApiError
from teul.wire.jsontext import render

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from teul.cli.context import Context
    from teul.cli.options.parser import Options

    Get = Callable[[str], Any]

# Fields that the engine leaves out when they are empty. A template may ask for them nevertheless, as for any field of docker's types:
# `{{if .State.Health}}` must be false, not an error.
_ABSENT: dict[str, dict[str, object]] = {
    "": {
        "SizeRw": None,
        "SizeRootFs": None,
        "GraphDriver": None,
        "Container": "",
        "Parent": "",
        "Comment": "",
        "Author": "",
        "Variant": "",
        "Peers": [],
        "Services": {},
    },
    "State": {"Health": None},
    "Config": {
        "Healthcheck": None,
        "ExposedPorts": None,
        "StopSignal": "",
        "StopTimeout": None,
        "Shell": None,
        "Domainname": "",
        "MacAddress": "",
        "NetworkDisabled": False,
        "Volumes": None,
        "OnBuild": None,
        "ArgsEscaped": False,
    },
    "HostConfig": {"Annotations": None, "Init": None, "Mounts": None, "Runtime": "", "StorageOpt": None, "Sysctls": None, "Tmpfs": None},
}
# A volume's, at the top: the other objects have no such fields.
_ABSENT_OF_VOLUME: dict[str, object] = {"ClusterVolume": None, "Status": {}, "UsageData": None}


# The fields of each part of a document that are maps of names which users or drivers choose.
_MAPS: dict[str, frozenset[str]] = {
    "": frozenset({"Labels", "Options", "Status", "Containers"}),
    "Config": frozenset({"Labels", "Volumes"}),
    "HostConfig": frozenset({"Annotations", "StorageOpt", "Sysctls", "Tmpfs"}),
    "HostConfig.LogConfig": frozenset({"Config"}),
    "NetworkSettings": frozenset({"Networks"}),
    "GraphDriver": frozenset({"Data"}),
    "IPAM": frozenset({"Options"}),
}


class _Part(dict[str, object]):
    """An object of a document as templates see it: `absent` fields read as empty, without being shown, and maps as maps."""

    def __init__(self, document: dict[str, object], place: str, absent: dict[str, object]) -> None:
        super().__init__(document)
        self._place = place
        self._absent = absent

    def template_field(self, name: str) -> object:
        from teul.templates.functions import field
        from teul.templates.maps import NamedValues

        value = self._absent[name] if name not in self and name in self._absent else field(dict(self), name)
        if name in _MAPS.get(self._place, ()) and (value is None or isinstance(value, dict)):
            return NamedValues(value)
        place = f"{self._place}.{name}".lstrip(".")
        if isinstance(value, dict) and (place in _MAPS or place in _ABSENT):
            return _Part(value, place, _ABSENT.get(place, {}))
        return value


def for_templates(document: dict[str, Any]) -> dict[str, Any]:
    """`document` as templates see it."""
    return _Part(document, "", _ABSENT_OF_VOLUME if "Mountpoint" in document else _ABSENT[""])


def show(context: Context, format_: str, references: list[str], get: Get) -> int:
    """Print what `get` finds for each reference; a reference that is not found is an error after everything else has been printed."""
    template = None
    if format_ and format_ != "json":
        from teul.templates.template import TemplateError, parse_template

        try:
            template = parse_template(format_)
        except TemplateError as error:
            raise CliError(f"template parsing error: {error}", 64) from None
    found: list[Any] = []
    lines: list[str] = []
    errors: list[str] = []
    for reference in references:
        try:
            document = get(reference)
            if template is not None:
                lines.append(_render_one(template, document))
            found.append(document)
        except ApiError as error:
            errors.append(f"Error response from daemon: {error.message}")
        except CliError as error:
            errors.append(error.message)
    if template is not None:
        context.streams.write("".join(f"{line}\n" for line in lines) or "\n")
    else:
        context.streams.print(render(found, indent="" if format_ == "json" else "    "))
    if errors:
        raise CliError("\n".join(errors))
    return 0


def _render_one(template: Any, document: dict[str, Any]) -> str:
    from teul.templates.template import TemplateError

    try:
        return str(template.render(for_templates(document)))
    except TemplateError as error:
        raise CliError(f"template parsing error: {error}") from None


def _getters(context: Context, *, size: bool) -> dict[str, Get]:
    client = context.client
    return {
        "container": lambda reference: client.get(container_path(reference, "json"), {"size": size}),
        "image": lambda reference: client.get(image_path(reference, "json")),
        "network": lambda reference: client.get(f"/networks/{quote(reference)}"),
        "volume": lambda reference: client.get(f"/volumes/{quote(reference)}"),
    }


def inspect(context: Context, options: Options, arguments: list[str]) -> int:
    kind = options.text("type")
    getters = _getters(context, size=options.flag("size"))
    if options.given("type") and kind not in getters:
        known = '", "'.join(getters)
        raise CliError(f'unknown type: "{kind}": must be one of "{known}"' if kind else f'type is empty: must be one of "{known}"')

    def get(reference: str) -> Any:
        for name, getter in getters.items():
            if kind and name != kind:
                continue
            try:
                document = getter(reference)
            except ApiError as error:
                # An engine that does not support a kind of object has no object of this name among that kind either.
                if kind or not (error.is_not_found or error.status == 501 or "invalid reference format" in error.message):
                    raise
                continue
            if options.flag("size") and name != "container":
                context.streams.print_error(f"WARNING: --size ignored for {name}")
            return document
        raise CliError(f"Error: No such object: {reference}")

    return show(context, options.text("format"), arguments, get)


def inspect_container(context: Context, options: Options, arguments: list[str]) -> int:
    return show(context, options.text("format"), arguments, _getters(context, size=options.flag("size"))["container"])


def inspect_image(context: Context, options: Options, arguments: list[str]) -> int:
    try:
        query = {"platform": platform_document(options.text("platform"))}
    except ValueError as error:
        raise CliError(str(error)) from None
    return show(context, options.text("format"), arguments, lambda reference: context.client.get(image_path(reference, "json"), query))


_FORMAT = Option("format", "string", INSPECT_FORMAT_HELP, short="f")

INSPECT = Command(
    "inspect [OPTIONS] NAME|ID [NAME|ID...]",
    "Return low-level information on Docker objects",
    inspect,
    options=(
        _FORMAT,
        Option("size", BOOL, "Display total file sizes if the type is container", short="s"),
        Option("type", "string", "Only inspect objects of the given type"),
    ),
    minimum=1,
)
INSPECT_CONTAINER = Command(
    "inspect [OPTIONS] CONTAINER [CONTAINER...]",
    "Display detailed information on one or more containers",
    inspect_container,
    options=(_FORMAT, Option("size", BOOL, "Display total file sizes", short="s")),
    minimum=1,
)
INSPECT_IMAGE = Command(
    "inspect [OPTIONS] IMAGE [IMAGE...]",
    "Display detailed information on one or more images",
    inspect_image,
    options=(
        _FORMAT,
        Option(
            "platform",
            "string",
            "Inspect a specific platform of the multi-platform image.\n"
            "If the image or the server is not multi-platform capable, the command will error out if the platform does not match.\n"
            "'os[/arch[/variant]]': Explicit platform (eg. linux/amd64)",
        ),
    ),
    minimum=1,
)
