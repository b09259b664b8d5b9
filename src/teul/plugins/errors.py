"""What goes wrong with plug-ins, in Docker's words: daemon/pkg/plugin/store.go, pkg/plugins/errors.go, and Go's for connections."""

from __future__ import annotations

import json

from teul.errors import NotFound, Refusal, Remote

HOST = "plugin.moby.localhost"
"""docker: the host that requests over a socket name."""


class PluginNotFound(NotFound):
    """No plug-in of this name is in any of the directories."""

    def __init__(self, name: str) -> None:
        super().__init__(f"plugin {json.dumps(name)} not found")


class PluginUnusable(Refusal):
    """The file that says where the plug-in is cannot be understood, or the plug-in is not of the kind that is wanted."""

    def __init__(self, reason: str) -> None:
        super().__init__(f"legacy plugin: {reason}")


class PluginUnreachable(Remote):
    """The plug-in cannot be connected to, or has gone in the middle of an answer."""


class PluginSilent(PluginUnreachable):
    """The plug-in has not answered in time."""


class PluginRefused(Remote):
    """The plug-in has answered that it will not, or with something that is no answer."""
