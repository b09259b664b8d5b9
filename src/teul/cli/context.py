"""What a command gets to work with: the user's streams, the environment, and a connection to the engine that is made on first use."""

from __future__ import annotations

import os

from teul.client.attach import write_all
from teul.client.errors import OutputFailed
from teul.client.terminal import is_terminal

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any

    from teul.cli.endpoint import Endpoint
    from teul.cli.options.parser import Options
    from teul.client.api import Client
    from teul.client.connection import Socket


class Streams:
    """Standard input, output and error as descriptors. Text goes out at once, so that it keeps its place among a container's bytes."""

    def __init__(self, stdin_fd: int = 0, stdout_fd: int = 1, stderr_fd: int = 2) -> None:
        self.stdin_fd = stdin_fd
        self.stdout_fd = stdout_fd
        self.stderr_fd = stderr_fd

    def write(self, text: str) -> None:
        write_all(self.stdout_fd, text.encode("utf-8", "surrogateescape"))

    def write_error(self, text: str) -> None:
        try:
            write_all(self.stderr_fd, text.encode("utf-8", "surrogateescape"))
        except OutputFailed:
            return  # nowhere is left where it could be said; the exit code stays

    def print(self, text: str) -> None:
        self.write(text + "\n")

    def print_error(self, text: str) -> None:
        self.write_error(text + "\n")

    def keep_places(self) -> None:
        """Have what is closed of the three lead to /dev/null, or the next file or socket that is opened would be taken for one of them.

        docker: Go's runtime does the same before `main`.
        """
        for fd in sorted((self.stdin_fd, self.stdout_fd, self.stderr_fd)):
            try:
                os.fstat(fd)
            except OSError:
                opened = os.open(os.devnull, os.O_RDWR)  # the lowest number that is free
                if opened != fd:
                    os.dup2(opened, fd)
                    os.close(opened)
                os.set_inheritable(fd, True)

    @property
    def stdin_is_terminal(self) -> bool:
        return is_terminal(self.stdin_fd)

    @property
    def stdout_is_terminal(self) -> bool:
        return is_terminal(self.stdout_fd)

    @property
    def stderr_is_terminal(self) -> bool:
        return is_terminal(self.stderr_fd)


class Context:
    """`program` is the name that messages speak of; `host`, `context_name` and `config_directory` come from the global `options`."""

    def __init__(
        self,
        environment: Mapping[str, str],
        streams: Streams,
        *,
        program: str = "teul",
        host: str = "",
        context_name: str = "",
        config_directory: str = "",
        debug: bool = False,
        options: Options | None = None,
    ) -> None:
        self.environment = environment
        self.streams = streams
        self.program = program
        self.debug = debug
        self._host = host
        self._options = options
        self._context_name = context_name
        self._config_directory = config_directory
        self._client: Client | None = None
        self._config: dict[str, Any] | None = None

    @property
    def config_directory(self) -> str:
        """Where docker keeps the user's settings; Teul reads the same settings."""
        home = self.environment.get("HOME") or os.path.expanduser("~")
        return self._config_directory or self.environment.get("DOCKER_CONFIG") or os.path.join(home, ".docker")

    @property
    def config(self) -> dict[str, Any]:
        """The user's `config.json`; empty when there is none."""
        if self._config is None:
            from teul.cli.endpoint import load_config

            self._config = load_config(self.config_directory)
        return self._config

    @property
    def endpoint(self) -> Endpoint:
        from teul.cli.endpoint import choose_endpoint

        return choose_endpoint(
            self.environment,
            lambda: self.config,
            host=self._host,
            context_name=self._context_name,
            config_directory=self.config_directory,
            options=self._options,
        )

    @property
    def client(self) -> Client:
        """The API of the chosen engine, which is started when it is Teul's own and nobody answers."""
        if self._client is None:
            from teul import __version__
            from teul.cli.engine import opener
            from teul.client.api import Client

            endpoint = self.endpoint
            self._tell_of_redirection(endpoint)
            self._client = Client(
                endpoint.address,
                opener=opener(endpoint, self.environment),
                api_version=self.environment.get("DOCKER_API_VERSION", "").removeprefix("v"),
                agent=f"teul/{__version__}",
            )
        return self._client

    def connect(self) -> Socket:
        """A bare connection to the chosen engine, which is started as for `client`."""
        from teul.cli.engine import opener

        endpoint = self.endpoint
        self._tell_of_redirection(endpoint)
        return opener(endpoint, self.environment)()

    @property
    def hints(self) -> list[str]:
        """What the engine has hinted at beside its refusals."""
        return [] if self._client is None else self._client.hints

    def _tell_of_redirection(self, endpoint: Endpoint) -> None:
        """Say which engine is spoken to where a setting that was made for docker leads `teul` away from its own.

        On a terminal only: there a person may have forgotten the setting, and takes another engine's containers for Teul's. A script's
        standard error is compared and mailed, and whoever wrote the script chose its environment. What was said to `teul` itself (-H,
        TEUL_HOST, --context) is not repeated.
        """
        if endpoint.chosen_by and self.streams.stderr_is_terminal:
            self.streams.print_error(f"{self.program}: speaking to {endpoint.address}, where {endpoint.chosen_by} leads")

    def close(self) -> None:
        if self._client is not None:
            self._client.close()
            self._client = None
