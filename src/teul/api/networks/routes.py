"""Networks over HTTP. Source: moby daemon/server/router/network, daemon/network.go."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from typing import Any

from aiohttp import web

from teul.api.http import query
from teul.api.http.context import api_version, services
from teul.errors import InvalidParameter
from teul.model.network import AddressRange, Attachment, Network
from teul.model.network_config import ConnectRequest, CreateNetwork, DisconnectRequest
from teul.oci.timestamp import render_time

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


async def list_networks(request: web.Request) -> web.StreamResponse:
    """`docker network ls`."""
    networks = services(request).networks
    found = networks.list(query.filters(request))
    # docker: before 1.28 the list said who was on each network.
    detailed = api_version(request) < (1, 28)
    return query.json_response([_render(network, networks.attachments(network) if detailed else ()) for network in found])


async def inspect_network(request: web.Request) -> web.StreamResponse:
    """`docker network inspect`."""
    _check_verbose(query.text(request, "verbose"))
    networks = services(request).networks
    network = networks.get(request.match_info["id"], scope=query.text(request, "scope"))
    return query.json_response(_render(network, networks.attachments(network)))


async def create_network(request: web.Request) -> web.StreamResponse:
    """`docker network create`."""
    body = await query.document(request, CreateNetwork)
    if api_version(request) < (1, 48):
        body.enable_ipv4 = None
    network = await services(request).networks.create(body)
    return query.json_response({"Id": network.id, "Warning": ""}, status=201)


async def remove_network(request: web.Request) -> web.StreamResponse:
    """`docker network rm`."""
    await services(request).networks.remove(request.match_info["id"])
    return web.Response(status=204)


async def connect_network(request: web.Request) -> web.StreamResponse:
    """`docker network connect`."""
    body = await query.document(request, ConnectRequest)
    await services(request).connections.connect(request.match_info["id"], body)
    return web.Response(status=200)


async def disconnect_network(request: web.Request) -> web.StreamResponse:
    """`docker network disconnect`."""
    body = await query.document(request, DisconnectRequest)
    await services(request).connections.disconnect(request.match_info["id"], body)
    return web.Response(status=200)


async def prune_networks(request: web.Request) -> web.StreamResponse:
    """`docker network prune`."""
    removed = await services(request).networks.prune(query.filters(request))
    # docker: null, not [], where nothing was removed.
    return query.json_response({"NetworksDeleted": list(removed) or None})


ROUTES: tuple[tuple[str, str, Handler], ...] = (
    ("GET", "/networks", list_networks),
    ("GET", "/networks/", list_networks),
    ("GET", "/networks/{id}", inspect_network),
    ("POST", "/networks/create", create_network),
    ("POST", "/networks/prune", prune_networks),
    ("POST", "/networks/{id}/connect", connect_network),
    ("POST", "/networks/{id}/disconnect", disconnect_network),
    ("DELETE", "/networks/{id}", remove_network),
)


# docker: this parameter is read by strconv.ParseBool, which is stricter than what reads the others.
_GO_BOOLEANS = frozenset({"1", "t", "T", "TRUE", "true", "True", "0", "f", "F", "FALSE", "false", "False"})


def _check_verbose(value: str) -> None:
    if value and value not in _GO_BOOLEANS:
        raise InvalidParameter(f'invalid value for verbose: {value}: strconv.ParseBool: parsing "{value}": invalid syntax')


def _render(network: Network, attachments: Sequence[Attachment]) -> dict[str, Any]:
    ranges = network.ipam.ranges
    rendered = {
        "Name": network.name,
        "Id": network.id,
        "Created": render_time(network.created_at_ns),
        "Scope": network.scope,
        "Driver": network.driver,
        "EnableIPv4": network.enable_ipv4,
        "EnableIPv6": network.enable_ipv6,
        "IPAM": {
            "Driver": network.ipam.driver,
            "Options": network.ipam.options,
            "Config": None if ranges is None else [_render_range(entry) for entry in ranges],
        },
        "Internal": network.internal,
        "Attachable": network.attachable,
        "Ingress": network.ingress,
        "ConfigFrom": {"Network": network.config_from},
        "ConfigOnly": network.config_only,
        "Containers": {attachment.container_id: _render_attachment(attachment) for attachment in attachments},
        "Options": network.options,
        "Labels": network.labels,
    }
    return rendered if network.egress is None else {**rendered, "Egress": network.egress}


def _render_range(entry: AddressRange) -> dict[str, Any]:
    rendered: dict[str, Any] = {"Subnet": entry.subnet}
    if entry.ip_range:
        rendered["IPRange"] = entry.ip_range
    if entry.gateway:
        rendered["Gateway"] = entry.gateway
    if entry.auxiliary:
        rendered["AuxiliaryAddresses"] = entry.auxiliary
    return rendered


def _render_attachment(attachment: Attachment) -> dict[str, str]:
    return {
        "Name": attachment.container_name,
        "EndpointID": attachment.endpoint_id,
        "MacAddress": attachment.mac,
        "IPv4Address": attachment.ipv4,
        "IPv6Address": attachment.ipv6,
    }
