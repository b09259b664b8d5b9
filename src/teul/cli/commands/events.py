"""`teul events`."""

from __future__ import annotations

from teul.cli.command import Command
from teul.cli.errors import CliError
from teul.cli.format.listing import INSPECT_FORMAT_HELP
from teul.cli.format.units import rfc3339
from teul.cli.options.keyvalues import to_filters
from teul.cli.options.parser import Option
from teul.cli.options.timestamps import parse_timestamp
from teul.wire.jsontext import render

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from teul.cli.context import Context
    from teul.cli.options.parser import Options


def render_event(event: dict[str, Any]) -> str:
    """`<time> container start <id> (image=busybox, name=x)`."""
    actor = event.get("Actor") or {}
    attributes = ", ".join(f"{name}={value}" for name, value in sorted((actor.get("Attributes") or {}).items()))
    time_ns = int(event.get("timeNano") or int(event.get("time") or 0) * 10**9)
    moment = rfc3339(time_ns // 10**9, time_ns % 10**9) + " " if time_ns else ""
    text = f"{moment}{event.get('Type', '')} {event.get('Action', '')} {actor.get('ID', '')}"
    return f"{text} ({attributes})" if attributes else text


def events(context: Context, options: Options, _arguments: list[str]) -> int:
    try:
        since, until = (parse_timestamp(options.text(name)) if options.text(name) else None for name in ("since", "until"))
    except ValueError as error:
        raise CliError(str(error)) from None
    template = _template(options.text("format"))
    query = {"since": since, "until": until, "filters": to_filters(options.texts("filter"))}
    for event in context.client.messages("GET", "/events", query):
        context.streams.print(render_event(event) if template is None else template.render(_Fields(event)))
    return 0


def _template(format_: str) -> Any:
    if not format_:
        return None
    from teul.templates.template import TemplateError, parse_template

    try:
        return parse_template("{{json .}}" if format_ == "json" else format_)
    except TemplateError as error:
        raise CliError(f"Error parsing format: {error}", 64) from None


# docker's names of fields, where the engine's JSON spells them in small letters.
_NAMES = {"Status": "status", "ID": "id", "From": "from", "Scope": "scope", "Time": "time", "TimeNano": "timeNano"}


class _Fields:
    """An event for a template."""

    def __init__(self, event: dict[str, Any]) -> None:
        self._event = event

    def template_field(self, name: str) -> object:
        return self._event.get(_NAMES.get(name, name), "")

    def template_json(self) -> str:
        return render(self._event)


EVENTS = Command(
    "events [OPTIONS]",
    "Get real time events from the server",
    events,
    options=(
        Option("filter", "filter", "Filter output based on conditions provided", short="f"),
        Option("format", "string", INSPECT_FORMAT_HELP),
        Option("since", "string", "Show all events created since timestamp"),
        Option("until", "string", "Stream events until this timestamp"),
    ),
    maximum=0,
    aliases="system events, events",
)
