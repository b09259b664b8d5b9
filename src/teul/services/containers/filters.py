"""Which containers a list shows, and which are pruned: filters as pure functions over records.

Source: moby daemon/list.go.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field

from teul.errors import InvalidParameter
from teul.model.container import Container
from teul.model.filter import Filters
from teul.model.lifecycle import Status
from teul.model.moment import parse_until_ns
from teul.model.number import parse_int64
from teul.model.ports import port_map

ACCEPTED = frozenset(
    ["ancestor", "before", "exited", "expose", "health", "id", "is-task", "isolation", "label", "name", "network", "publish", "since"]
) | {"status", "volume"}
_PRUNE_FILTERS = frozenset({"label", "label!", "until"})
_HEALTH = ("starting", "healthy", "unhealthy", "none")
_PORTS = re.compile(r"([0-9]{1,5})(?:-([0-9]{1,5}))?(?:/(tcp|udp|sctp))?")


@dataclass(frozen=True, slots=True)
class ContainerQuery:
    """Which containers to list: the `limit` newest (0: no limit), stopped ones too if `all`."""

    all: bool = False
    limit: int = 0
    filters: Filters = field(default_factory=Filters)


def select_containers(
    containers: Sequence[Container],
    query: ContainerQuery,
    *,
    get: Callable[[str], Container],
    find_image_id: Callable[[str], str | None],
) -> list[Container]:
    """The containers among `containers` (newest first) that `query` asks for, in the same order.

    `get` looks a container up by reference for `before` and `since` and raises NotFound; `find_image_id` resolves `ancestor`.
    Raises InvalidParameter for a filter or value that does not exist.
    """
    if not query.filters:
        return _limited(containers if query.all or query.limit > 0 else [c for c in containers if c.state.counts_as_running], query)
    conditions = list(_conditions(query, find_image_id))
    chosen = _between(containers, query.filters, get)
    return _limited([container for container in chosen if all(condition(container) for condition in conditions)], query)


def check_prune_filters(filters: Filters) -> None:
    """Raise InvalidParameter for a filter that `container prune` does not know."""
    filters.validate(_PRUNE_FILTERS)
    if len(filters.get("until")) > 1:
        raise InvalidParameter("more than one until filter specified")


def prune_filter(filters: Filters, *, now_ns: int) -> Callable[[Container], bool]:
    """A predicate for checked `filters`: what is not spared. Raises InvalidParameter for a moment that is none. docker: daemon/prune.go."""
    until_ns = next((parse_until_ns(value, now_ns) for value in filters.get("until")), None)

    def is_wanted(container: Container) -> bool:
        if until_ns is not None and container.created_at_ns > until_ns:
            return False
        labels = container.config.labels
        return filters.pairs("label", labels) and not ("label!" in filters and filters.pairs("label!", labels))

    return is_wanted


def _limited(containers: Sequence[Container], query: ContainerQuery) -> list[Container]:
    return list(containers[: query.limit] if query.limit > 0 else containers)


def _between(containers: Sequence[Container], filters: Filters, get: Callable[[str], Container]) -> Sequence[Container]:
    """The containers that are older than `before` and newer than `since`."""
    identifiers = [container.id for container in containers]
    start, end = 0, len(containers)
    for reference in filters.get("before"):
        start = identifiers.index(get(reference).id) + 1
    for reference in filters.get("since"):
        end = identifiers.index(get(reference).id)
    return containers[start:end]


def _conditions(query: ContainerQuery, find_image_id: Callable[[str], str | None]) -> Iterator[Callable[[Container], bool]]:
    """One predicate per filter that was given. Raises InvalidParameter."""
    filters = query.filters
    filters.validate(ACCEPTED)
    _check_values(filters, "status", tuple(Status))
    _check_values(filters, "health", _HEALTH)
    if not query.all and query.limit <= 0 and "status" not in filters:
        yield lambda container: container.state.counts_as_running
    if "name" in filters:
        yield lambda container: filters.matches("name", container.name) or filters.matches("name", "/" + container.name)
    if "id" in filters:
        yield lambda container: filters.fuzzy("id", container.id)
    if "label" in filters:
        yield lambda container: filters.pairs("label", container.config.labels)
    if "status" in filters:
        yield lambda container: filters.exact("status", container.state.status)
    if "exited" in filters:
        codes = frozenset(_exit_code(value) for value in filters.get("exited"))
        yield lambda container: _has_exited(container, codes)
    if "health" in filters:
        yield lambda container: filters.exact("health", container.health_status)
    if filters.boolean("is-task", default=False):
        yield lambda _: False
    if "ancestor" in filters:
        images = frozenset(filter(None, map(find_image_id, filters.get("ancestor"))))
        yield lambda container: container.image_id in images
    if "volume" in filters:
        yield lambda container: any(_is_mounted(container, value) for value in filters.get("volume"))
    if "network" in filters:
        yield lambda container: any(_is_connected(container, value) for value in filters.get("network"))
    if "publish" in filters or "expose" in filters:
        yield _port_condition(filters)


def _check_values(filters: Filters, key: str, accepted: Sequence[str]) -> None:
    for value in filters.get(key):
        if value not in accepted:
            kind = "state" if key == "status" else "health status"
            raise InvalidParameter(
                f"invalid filter '{key}={value}': invalid value for {kind} ({value}): must be one of {', '.join(accepted)}"
            )


def _exit_code(value: str) -> int:
    try:
        return parse_int64(value)
    except ValueError as error:
        raise InvalidParameter(f"invalid filter 'exited={value}': strconv.Atoi: parsing \"{value}\": {error}") from None


def _has_exited(container: Container, codes: frozenset[int]) -> bool:
    state = container.state
    return state.exit_code in codes and not state.counts_as_running and state.started_at_ns != 0


def _is_mounted(container: Container, volume: str) -> bool:
    return any(volume in (mount.destination, mount.name or mount.source) for mount in container.mounts)


def _is_connected(container: Container, network: str) -> bool:
    ids = {name: settings.network_id for name, settings in container.wanted_networks.items()}
    ids |= {name: endpoint.network_id for name, endpoint in container.endpoints.items()}
    return any(network == name or network_id.startswith(network) for name, network_id in ids.items())


def _port_condition(filters: Filters) -> Callable[[Container], bool]:
    published = frozenset(port for value in filters.get("publish") for port in _parse_ports("publish", value))
    exposed = frozenset(port for value in filters.get("expose") for port in _parse_ports("expose", value))

    def condition(container: Container) -> bool:
        ports = port_map(container)
        public = {f"{place.host_port}/{place.protocol}" for places in ports.values() for place in places}
        return not exposed.isdisjoint(ports) or not published.isdisjoint(public)

    return condition


def _parse_ports(key: str, value: str) -> list[str]:
    if ":" in value:
        raise InvalidParameter(f"filter for '{key}' should not contain ':': {value}")
    match = _PORTS.fullmatch(value)
    if match is None:
        raise InvalidParameter(f"error while looking up for {key} {value}: invalid port '{value}'")
    first, last = int(match[1]), int(match[2] or match[1])
    return [f"{port}/{match[3] or 'tcp'}" for port in range(first, last + 1)]
