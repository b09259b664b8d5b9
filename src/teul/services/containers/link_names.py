"""Names that containers have by links on the default bridge: `parent/alias` is a name of the child as long as there are both."""

from __future__ import annotations

from teul.model.container import Container


class LinkNames:
    """All such names of one engine, which follow from the parents' records."""

    def __init__(self) -> None:
        self._children: dict[str, str] = {}  # name → id of the child
        self._names: dict[str, dict[str, str]] = {}  # id of a child → its names → ids of their parents
        self._declared: dict[str, list[str]] = {}  # id of a parent → names

    def declare(self, parent: Container) -> None:
        """The names that follow from a record, new or changed, in place of those that followed from it before."""
        self.withdraw(parent)
        for alias, child in parent.links.items():
            name = f"{parent.name}/{alias}"
            self._children[name] = child.id
            self._names.setdefault(child.id, {})[name] = parent.id
            self._declared.setdefault(parent.id, []).append(name)

    def withdraw(self, parent: Container) -> None:
        """The parent's record is gone. Idempotent."""
        for name in self._declared.pop(parent.id, ()):
            child_id = self._children.pop(name)
            names = self._names[child_id]
            del names[name]
            if not names:
                del self._names[child_id]

    def find(self, name: str) -> str | None:
        """The id of the child that has this name."""
        return self._children.get(name)

    def parents(self) -> list[str]:
        """The ids of the containers that have links."""
        return list(self._declared)

    def names_of(self, child_id: str) -> list[str]:
        """The names that a container has by links."""
        return sorted(self._names.get(child_id, ()))

    def parents_of(self, child_id: str) -> list[str]:
        """The ids of the containers that are linked to this one, once for each link."""
        return list(self._names.get(child_id, {}).values())
