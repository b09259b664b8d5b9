"""A further process in a running container (`docker exec`). Kept in memory: it lives no longer than its container's run."""

from __future__ import annotations

from typing import ClassVar

import msgspec

from teul.model.document import Document


class ExecConfig(Document):
    """The body of `POST /containers/{id}/exec`; `console_size` is (height, width)."""

    OMIT_EMPTY: ClassVar[frozenset[str]] = frozenset({"console_size"})

    user: str = ""
    privileged: bool = False
    tty: bool = False
    console_size: tuple[int, int] | None = None
    attach_stdin: bool = False
    attach_stderr: bool = False
    attach_stdout: bool = False
    detach_keys: str = ""
    env: list[str] | None = None
    working_dir: str = ""
    cmd: list[str] | None = None
    detach: bool = False


class ExecStartConfig(Document):
    """The body of `POST /exec/{id}/start`."""

    OMIT_EMPTY: ClassVar[frozenset[str]] = frozenset({"console_size"})

    detach: bool = False
    tty: bool = False
    console_size: tuple[int, int] | None = None


class Exec(msgspec.Struct, kw_only=True):
    """One exec. It was started if `running` or `exit_code` is set; `exit_code` is None until it has ended.

    `can_remove` is Docker's word for "nobody will look at it again". `path` and `args` are `config.cmd`, split for inspection.
    """

    id: str
    container_id: str
    config: ExecConfig
    path: str
    args: list[str]
    running: bool = False
    started: bool = False
    exit_code: int | None = None
    pid: int = 0
    can_remove: bool = False
