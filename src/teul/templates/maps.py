"""Maps of names that users choose, labels above all, as templates see them: a name that is not there is no error.

docker: its templates see Go's types, and text/template has `<no value>` for a key that a map lacks, where a struct lacks no field.
"""

from __future__ import annotations

from teul.wire.jsontext import render


class NoValue:
    """What stands for a key that is not there: nothing, whatever is asked of it."""

    def __bool__(self) -> bool:
        return False

    def __str__(self) -> str:
        return "<no value>"

    def template_field(self, _name: str) -> NoValue:
        return self

    def template_json(self) -> str:
        return "null"


class NamedValues(dict[str, object]):
    """A map of the document's, or none (`null`), which reads as an empty one."""

    def __init__(self, values: dict[str, object] | None) -> None:
        super().__init__(values or {})
        self._is_nil = values is None

    def template_field(self, name: str) -> object:
        return self[name] if name in self else NoValue()

    def template_json(self) -> str:
        return "null" if self._is_nil else render(dict(self))
