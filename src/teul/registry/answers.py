"""What a registry's answers say: refusals in their many shapes, bounded bodies, links to the next page.

docker: vendored distribution/registry/client/errors.go, HandleErrorResponse. Whatever a body holds, what comes out is a `RegistryError`.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from http.client import responses
from typing import Any

import aiohttp

from teul.registry.backoff import parse_retry_after
from teul.registry.challenges import parse_challenges
from teul.registry.errors import BadAnswer, ConnectionFailed, Problem, Refused
from teul.registry.failures import describe_failure, describe_request

MAX_ERROR_BYTES = 64 * 1024
_SHOWN_CHARACTERS = 4 * 1024
_MAX_PROBLEMS = 32
_JSON_TYPES = frozenset({"application/json", "application/vnd.api+json"})
_CODES_OF_STATUS = {401: "UNAUTHORIZED", 403: "DENIED", 429: "TOOMANYREQUESTS"}
# spec: RFC 6750 section 3.1
_CODES_OF_CHALLENGE = {"invalid_token": "UNAUTHORIZED", "insufficient_scope": "DENIED"}
_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]")
_LINK = re.compile(r"<([^<>]*)>\s*((?:;\s*[a-zA-Z*]+\s*(?:=\s*(?:\"[^\"]*\"|[^\s,;\"]*))?\s*)*)")


async def next_bytes(response: aiohttp.ClientResponse) -> bytes:
    """What has come of the body since, waiting for it; b"" at its end. Raises `ConnectionFailed`."""
    try:
        return await response.content.readany()
    except (aiohttp.ClientError, OSError) as error:
        url = response.url
        problem = describe_failure(error, url.raw_host or "", url.port or 0)
        raise ConnectionFailed(describe_request(response.method, str(url.with_query(None)), problem), problem=problem) from error


async def read_bounded(response: aiohttp.ClientResponse, limit_bytes: int, name: str) -> bytes:
    """The whole body. Raises `BadAnswer` if it is longer than `limit_bytes`, having read no more than that, and `ConnectionFailed`."""
    data = bytearray()
    while chunk := await next_bytes(response):
        data += chunk
        if len(data) > limit_bytes:
            raise BadAnswer(f"{name} is larger than the limit of {limit_bytes} bytes")
    return bytes(data)


async def refusal(response: aiohttp.ClientResponse) -> Refused:
    """The error that the answer is, its body read as far as `MAX_ERROR_BYTES`. Raises `ConnectionFailed`, and nothing for what it holds."""
    data = bytearray()
    while len(data) < MAX_ERROR_BYTES and (chunk := await next_bytes(response)):
        data += chunk
    return describe_refusal(response.status, response.reason or "", response.headers, bytes(data[:MAX_ERROR_BYTES]))


def describe_refusal(status: int, reason: str, headers: Mapping[str, str], body: bytes) -> Refused:
    """The error that an answer with `status` is. `headers` may be a multidict."""
    patience = parse_retry_after(headers.get("Retry-After"))
    if not 400 <= status < 500:
        known = responses.get(status) or shown(reason)
        return Refused(f"received unexpected HTTP status: {status} {known}".rstrip(), status=status, retry_after_seconds=patience)
    problems = [*_challenge_problems(status, headers)]
    message = ""
    parsed = _parse_body(status, headers.get("Content-Type", ""), body)
    if isinstance(parsed, str):
        message = parsed
        if status == 401:
            problems.append(Problem.described("UNAUTHORIZED"))
    else:
        problems += parsed
    if problems:
        # docker: of several errors the first one is shown.
        message = str(problems[0])
    return Refused(message, status=status, problems=problems, retry_after_seconds=patience)


def _challenge_problems(status: int, headers: Mapping[str, str]) -> Iterable[Problem]:
    if status != 401:
        return
    getall = getattr(headers, "getall", None)
    values = getall("WWW-Authenticate", ()) if getall is not None else [headers.get("WWW-Authenticate", "")]
    for challenge in parse_challenges(values):
        code = _CODES_OF_CHALLENGE.get(challenge.parameters.get("error", ""))
        if challenge.scheme == "bearer" and code is not None:
            description = challenge.parameters.get("error_description", "")
            yield Problem(code, shown(description), has_detail=True) if description else Problem.described(code)
            return


def _parse_body(status: int, content_type: str, body: bytes) -> list[Problem] | str:
    """The problems that a body lists, or what is wrong with the body."""
    text = shown(body.decode("utf-8", "replace"))
    if content_type.partition(";")[0].strip().lower() not in _JSON_TYPES:
        return [_problem_of_status(status, text)]
    try:
        document = json.loads(body)
    except (ValueError, RecursionError) as error:
        return _unreadable(status, _go_json_error(body, error), text)
    if document is None:
        document = {}
    if not isinstance(document, dict):
        kind = {list: "array", str: "string", bool: "bool"}.get(type(document), "number")
        return _unreadable(status, f"json: cannot unmarshal {kind} into Go value of type struct {{ Errors []errcode.Error }}", text)
    details = document.get("details")
    if isinstance(details, str) and details:
        return [_problem_of_status(status, shown(details))]
    listed = document.get("errors")
    problems = [_problem(entry) for entry in listed[:_MAX_PROBLEMS] if isinstance(entry, dict)] if isinstance(listed, list) else []
    return problems or _unreadable(status, "no error details found in HTTP response body", text)


def _problem(entry: dict[str, Any]) -> Problem:
    code, message = entry.get("code"), entry.get("message")
    return Problem.of(
        code if isinstance(code, str) else "UNKNOWN",
        shown(message) if isinstance(message, str) else "",
        has_detail=entry.get("detail") is not None,
    )


def _problem_of_status(status: int, text: str) -> Problem:
    return Problem(_CODES_OF_STATUS.get(status, "UNKNOWN"), text, has_detail=True)


def _go_json_error(body: bytes, error: Exception) -> str:
    if not body.strip():
        return "unexpected end of JSON input"
    first = body.lstrip()[:1].decode("latin-1")
    if not first.isprintable():
        first = repr(first)[1:-1]  # security: as in `shown`; Go escapes it the same way
    return f"invalid character '{first}' looking for beginning of value" if first not in "{[" else f"invalid JSON: {shown(str(error))}"


def _unreadable(status: int, why: str, text: str) -> str:
    return f"error parsing HTTP {status} response body: {why}: {json.dumps(text, ensure_ascii=False)}"


def shown(text: str) -> str:
    """`text` for an error message. security: a registry's words reach a terminal, so what steers terminals goes, and there is an end."""
    return _CONTROL.sub("", text)[:_SHOWN_CHARACTERS]


def next_link(headers: Iterable[str]) -> str | None:
    """The target of the link with `rel="next"`, as it stands in `Link` headers, or None. docker: a link without `rel` counts too."""
    for header in headers:
        for target, parameters in _LINK.findall(header[:_SHOWN_CHARACTERS]):
            relation = re.search(r';\s*rel\s*=\s*"?([^";]*)', parameters, re.IGNORECASE)
            if target and (relation is None or "next" in relation[1].lower().split()):
                return str(target)
    return None
