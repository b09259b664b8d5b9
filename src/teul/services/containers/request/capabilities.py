"""Which capabilities a container gets. docker: oci/caps/defaults.go and utils.go; the same names, rules and sentences."""

from __future__ import annotations

from collections.abc import Sequence

from teul.errors import InvalidParameter
from teul.services.host import HostFacts

DEFAULT_CAPABILITIES = (
    "CAP_CHOWN",
    "CAP_DAC_OVERRIDE",
    "CAP_FSETID",
    "CAP_FOWNER",
    "CAP_MKNOD",
    "CAP_NET_RAW",
    "CAP_SETGID",
    "CAP_SETUID",
    "CAP_SETFCAP",
    "CAP_SETPCAP",
    "CAP_NET_BIND_SERVICE",
    "CAP_SYS_CHROOT",
    "CAP_KILL",
    "CAP_AUDIT_WRITE",
)
_ALL = "ALL"


def normalise_capabilities(names: Sequence[str], host: HostFacts, *, field: str) -> list[str]:
    """`net_admin` to `CAP_NET_ADMIN`, `all` to `ALL`. Raises InvalidParameter, naming `field` (CapAdd or CapDrop)."""
    normal = []
    for name in names:
        upper = name.upper()
        if upper == _ALL:
            normal.append(upper)
            continue
        full = upper if upper.startswith("CAP_") else f"CAP_{upper}"
        if full not in host.known_capabilities:
            raise InvalidParameter(f'invalid {field}: unknown capability: "{full}"')
        if full not in host.capabilities:
            raise InvalidParameter(
                f'invalid {field}: capability not supported by your kernel or not available in the current environment: "{full}"'
            )
        normal.append(full)
    return normal


def choose_capabilities(add: Sequence[str] | None, drop: Sequence[str] | None, *, privileged: bool, host: HostFacts) -> tuple[str, ...]:
    """The capabilities of a container with these options, each once. Raises InvalidParameter."""
    if privileged:
        return host.capabilities
    added = normalise_capabilities(add or (), host, field="CapAdd")
    dropped = set(normalise_capabilities(drop or (), host, field="CapDrop"))
    if _ALL in added:
        return tuple(name for name in host.capabilities if name not in dropped)
    if _ALL in dropped:
        return tuple(dict.fromkeys(added))
    kept = [name for name in DEFAULT_CAPABILITIES if name not in dropped and name in host.capabilities]
    return tuple(dict.fromkeys([*kept, *added]))
