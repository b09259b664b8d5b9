"""A request to change what a container publishes: a document of Teul's own."""

from __future__ import annotations

from teul.model.document import Document
from teul.model.host_config import PortBinding


class PortChanges(Document):
    """Bindings to be added and to be taken away, each as HostConfig's PortBindings.

    Of what is to go, a part that is empty means whatever is there; no place at all means all of them.
    """

    add: dict[str, list[PortBinding] | None] | None = None
    remove: dict[str, list[PortBinding] | None] | None = None
