"""A request to change what a container, or a network's containers, may reach: a document of Teul's own."""

from __future__ import annotations

from typing import ClassVar

import msgspec

from teul.model.document import Document


class EgressChange(Document):
    """The rules from now on, as `model.egress` has them: `any` where there is to be no policy. What says nothing changes nothing."""

    STRING_OR_LIST: ClassVar[frozenset[str]] = frozenset({"egress"})

    egress: list[str] = msgspec.field(default_factory=list)
