"""Links between containers, as clients write them. Pure; docker: opts/opts.go, ParseLink."""

from __future__ import annotations


def parse_link(text: str) -> tuple[str, str]:
    """The container that `container[:alias]` names, and the name that it is to have. Raises `ValueError`, in Docker's words."""
    if not text:
        raise ValueError("empty string specified for links")
    container, colon, alias = text.partition(":")
    if ":" in alias:
        raise ValueError(f"bad format for links: {text}")
    if not colon:
        return text, text
    if container.startswith("/"):
        # docker: as an old container's record has it, `/container:/other/alias`.
        return container[1:], alias.rpartition("/")[2]
    return container, alias
