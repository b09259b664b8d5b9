"""POST /teul/system/check: whether what is stored is what it was. A route of Teul's own, in no version of Docker's API.

The answer is a stream of JSON lines. `{"finding": {…}}` is something damaged, `{"progress": {…}}` how far the check is, and the last line,
`{"outcome": {…}}`, says how much was looked at and what became of it; without that line the check did not come to its end.
"""

from __future__ import annotations

from contextlib import aclosing
from typing import Any

import msgspec
from aiohttp import web

from teul.api.http.context import services
from teul.api.http.query import boolean
from teul.api.http.streaming import json_stream, while_connected
from teul.services.images.check import Report
from teul.services.images.damage import Finding, Progress


async def check_storage(request: web.Request) -> web.StreamResponse:
    """With `repair` set, what can be repaired is. A check ends when its client leaves; what is repaired by then stays so."""
    reports = services(request).image_check.run(repair=boolean(request, "repair"))
    async with while_connected(request), json_stream(request, line_end=b"\n") as stream, aclosing(reports):
        async for report in reports:
            await stream.send(_view(report))
    return stream.response


ROUTES = (("POST", "/teul/system/check", check_storage),)


def _view(report: Report) -> dict[str, Any]:
    members = msgspec.to_builtins(report)
    match report:
        case Finding():
            return {"finding": members}
        case Progress():
            return {"progress": members}
    return {"outcome": members}
