"""The OCI runtimes that an engine knows by name: its own, and those that its administrator has added."""

from __future__ import annotations

from dataclasses import dataclass

# docker: the name of dockerd's own runtime, and the name of the shim by which it is asked for. Here they are Teul's own.
OWN_RUNTIME = "runc"
OWN_NAMES = (OWN_RUNTIME, "io.containerd.runc.v2")


@dataclass(frozen=True, slots=True)
class OciRuntime:
    """A program with the command line of runc; `path` is looked for in PATH if it has no slash."""

    name: str
    path: str


@dataclass(frozen=True, slots=True)
class Runtimes:
    """`default` is the one of containers that do not ask for any."""

    added: tuple[OciRuntime, ...] = ()
    default: str = OWN_RUNTIME

    def has(self, name: str) -> bool:
        """Whether a container can ask for it."""
        return name in OWN_NAMES or self.find(name) is not None

    def find(self, name: str) -> OciRuntime | None:
        """The added runtime of this name; None for Teul's own, and for what is unknown."""
        return next((runtime for runtime in self.added if runtime.name == name), None)


OWN_ONLY = Runtimes()
