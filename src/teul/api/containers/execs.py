"""Further processes in running containers."""

from __future__ import annotations

from typing import Any

from aiohttp import web

from teul.api.containers.streams import Ending, SessionOptions, run_session
from teul.api.http import query
from teul.api.http.context import HEADERS, api_version, services
from teul.api.http.errors import describe
from teul.api.http.hijack import MULTIPLEXED, RAW, Hijacked, RawStream, hijack
from teul.api.http.query import json_response
from teul.errors import InvalidParameter, TeulError
from teul.model.exec import Exec, ExecConfig, ExecStartConfig
from teul.model.terminal import check_console_size
from teul.services.events import container_event
from teul.wire import stdcopy
from teul.wire.detach_keys import parse_detach_keys


async def create(request: web.Request) -> web.StreamResponse:
    """Prepare an exec; nothing runs yet."""
    config = await query.document(request, ExecConfig)
    if not config.cmd:
        raise InvalidParameter("No exec command specified")
    if api_version(request) < (1, 42):
        config.console_size = None
    parse_detach_keys(config.detach_keys)
    identifier = await services(request).execs.create(request.match_info["name"], config)
    return json_response({"Id": identifier}, status=201)


async def start(request: web.Request) -> web.StreamResponse:
    """Run an exec: detached, or over a hijacked connection.

    docker: once the connection is hijacked, a failure to start is told as the process's output; the exit code says that it was a failure.
    """
    options = await query.document(request, ExecStartConfig)
    check_console_size(options.console_size)
    execs = services(request).execs
    prepared = execs.get(request.match_info["id"])
    if options.detach:
        await execs.start(prepared.id, detach=True, terminal=options.tty)
        return web.Response(status=200)
    multiplexed = not options.tty
    content_type = MULTIPLEXED if multiplexed and api_version(request) >= (1, 42) else RAW
    stream = hijack(request, content_type=content_type, headers=HEADERS)
    try:
        await _serve(request, prepared, options, stream, multiplexed=multiplexed)
    finally:
        await stream.close()
    return Hijacked()


async def inspect(request: web.Request) -> web.StreamResponse:
    """Tell what became of an exec."""
    return json_response(inspection(services(request).execs.get(request.match_info["id"])))


async def resize(request: web.Request) -> web.StreamResponse:
    """Set the size of an exec's terminal."""
    height = query.dimension(request, "h", name="height")
    width = query.dimension(request, "w", name="width")
    await services(request).execs.resize(request.match_info["id"], height=height, width=width)
    return web.Response(status=200)


ROUTES = (
    ("POST", "/containers/{name:.+}/exec", create),
    ("POST", "/exec/{id}/start", start),
    ("POST", "/exec/{id}/resize", resize),
    ("GET", "/exec/{id}/json", inspect),
)


def inspection(record: Exec) -> dict[str, Any]:
    """dockerd's document. The user is left out when none was asked for."""
    config = record.config
    process: dict[str, Any] = {"tty": config.tty, "entrypoint": record.path, "arguments": record.args, "privileged": config.privileged}
    if config.user:
        process["user"] = config.user
    return {
        "ID": record.id,
        "Running": record.running,
        "ExitCode": record.exit_code,
        "ProcessConfig": process,
        "OpenStdin": config.attach_stdin,
        "OpenStderr": config.attach_stderr,
        "OpenStdout": config.attach_stdout,
        "CanRemove": record.can_remove,
        "ContainerID": record.container_id,
        # docker: the key codes, in base64 as Go writes all bytes.
        "DetachKeys": parse_detach_keys(config.detach_keys) if config.detach_keys else "",
        "Pid": record.pid,
    }


async def _serve(request: web.Request, prepared: Exec, options: ExecStartConfig, stream: RawStream, *, multiplexed: bool) -> None:
    found = services(request)
    try:
        attachment = await found.execs.start(prepared.id, detach=False, terminal=options.tty)
    except TeulError as error:
        text = f"{describe(error)[1]}\r\n".encode()
        await stream.write(stdcopy.frame(stdcopy.STDOUT, text) if multiplexed else text)
        return
    assert attachment is not None
    try:
        if options.tty and options.console_size is not None and api_version(request) >= (1, 42):
            height, width = options.console_size
            await found.execs.resize(prepared.id, height=height, width=width)
        session = SessionOptions(
            multiplexed=multiplexed,
            stdin=prepared.config.attach_stdin,
            close_stdin=not options.tty,
            detach_keys=parse_detach_keys(prepared.config.detach_keys),
        )
        ending = await run_session(stream, attachment, session)
    finally:
        await attachment.close()
    if ending is Ending.DETACHED:
        container = found.containers.get(prepared.container_id)
        found.events.publish(container_event(container, "exec_detach", execID=prepared.id))
