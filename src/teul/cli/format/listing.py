"""Lists of containers, images and the like as docker prints them: a table, JSON lines, or a Go template per row (`--format`)."""

from __future__ import annotations

from teul.cli.errors import CliError
from teul.cli.format.tabwriter import TabWriter
from teul.wire.jsontext import render

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from typing import Any, ClassVar

FORMAT_HELP = (
    "Format output using a custom template:\n'table':            Print output in table format with column headers (default)\n"
    "'table TEMPLATE':   Print output in table format using the given Go template\n'json':             Print in JSON format\n"
    "'TEMPLATE':         Print output using the given Go template.\n"
    "Refer to https://docs.docker.com/go/formatting/ for more information about formatting output with templates"
)
INSPECT_FORMAT_HELP = (
    "Format output using a custom template:\n'json':             Print in JSON format\n"
    "'TEMPLATE':         Print output using the given Go template.\n"
    "Refer to https://docs.docker.com/go/formatting/ for more information about formatting output with templates"
)


class Row:
    """One entry of a list. `FIELDS` maps the names that templates use to functions of the row; `METHODS` are those with arguments.

    `KIND` is what docker calls the type, in its messages; "" for one that is called as its neighbours are.
    """

    KIND: ClassVar[str] = ""
    FIELDS: ClassVar[Mapping[str, Callable[[Any], str | None]]] = {}
    METHODS: ClassVar[Mapping[str, Callable[..., str]]] = {}

    def text(self, name: str) -> str:
        return self.FIELDS[name](self) or ""

    def template_field(self, name: str) -> object:
        if name in self.FIELDS:
            return self.FIELDS[name](self)
        if name in self.METHODS:
            method = self.METHODS[name]
            return lambda *arguments: method(self, *arguments)
        from teul.templates.template import TemplateError

        kind = self.KIND or f"formatter.{type(self).__name__.replace('Row', 'Context')}"
        raise TemplateError(f'template: :1:2: executing "" at <.{name}>: can\'t evaluate field {name} in type *{kind}')

    def json_value(self, name: str) -> object:
        """What a field is in JSON, where that may differ from its text."""
        return self.FIELDS[name](self)

    def template_json(self) -> str:
        """The row as JSON: every field, in alphabetical order."""
        text = render({name: self.json_value(name) for name in sorted(self.FIELDS)})
        # docker: rows are marshalled with Go's defaults, which make JSON safe to stand in HTML.
        return text.replace("&", "\\u0026").replace("<", "\\u003c").replace(">", "\\u003e")


class Listing:
    """How to show rows: `columns` of the default table as (field, header) pairs, `headers` of all fields, the template of `raw`."""

    def __init__(self, columns: Sequence[str], headers: Mapping[str, str], raw: str = "") -> None:
        self._columns = columns
        self._headers = headers
        self._raw = raw

    def render(self, rows: Sequence[Row], format_: str = "", *, quiet: bool = False) -> str:
        """The text of `rows`. Raises `CliError` for a template that is malformed or does not fit the rows."""
        if format_ in ("", "table"):
            if quiet:
                return "".join(f"{row.text('ID')}\n" for row in rows)
            lines = ["\t".join(self._headers[name] for name in self._columns)]
            lines += ["\t".join(row.text(name) for name in self._columns) for row in rows]
            return _table("\n".join(lines) + "\n")
        if quiet and format_ != "raw":
            return "".join(f"{row.text('ID')}\n" for row in rows)
        if format_ == "json":
            return "".join(f"{row.template_json()}\n" for row in rows)
        return self._render_template(rows, self._raw if format_ == "raw" else format_)

    def _render_template(self, rows: Sequence[Row], format_: str) -> str:
        from teul.templates.functions import HEADER_FUNCTIONS
        from teul.templates.template import TemplateError

        table = format_.startswith("table")
        try:
            template = compile_format(format_)
            body = "".join(template.render(row) + "\n" for row in rows)
            if not table:
                return body
            header = template.render(_Header(self._headers), HEADER_FUNCTIONS)
        except TemplateError as error:
            raise CliError(f"template parsing error: {error}") from None
        return _table(f"{header}\n{body}")


class _Header:
    """A row of column names. A method with an argument, such as a label, is headed by the argument's last part, as it is written."""

    def __init__(self, headers: Mapping[str, str]) -> None:
        self._headers = headers

    def template_field(self, name: str) -> object:
        return self._headers.get(name) or (lambda *arguments: _argument_header(*arguments) if arguments else name.upper())


def _argument_header(argument: object) -> str:
    """docker: cli/command/formatter/custom.go, SubHeaderContext.Label."""
    return str(argument).rpartition(".")[2].replace("-", " ").replace("_", " ")


def compile_format(format_: str) -> Any:
    """The template of a format: without the word `table`, with backslash-t and backslash-n as docker reads them."""
    from teul.templates.template import parse_template

    text = format_.removeprefix("table") if format_.startswith("table") else format_
    return parse_template(text.strip(" ").replace("\\t", "\t").replace("\\n", "\n"))


def _table(text: str) -> str:
    return TabWriter(minimum=10, padding=3).render(text)
