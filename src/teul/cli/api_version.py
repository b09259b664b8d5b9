"""Which version of Docker's API the engine and this command speak to each other."""

from __future__ import annotations

from teul.cli.errors import CliError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from teul.cli.context import Context


def spoken_version(context: Context) -> str:
    """That of the environment, or else the engine's newest."""
    return context.environment.get("DOCKER_API_VERSION", "").removeprefix("v") or str(context.client.get("/version")["ApiVersion"])


def is_older(version: str, than: str) -> bool:
    """Whether `version` is before `than`."""
    return [int(part) for part in version.split(".")] < [int(part) for part in than.split(".")]


def require_version(context: Context, needed: str, *what: str) -> None:
    """Raise docker's refusal of options or a command that came with version `needed`, if an older one is spoken."""
    if not what:
        return
    spoken = spoken_version(context)
    if is_older(spoken, needed):
        raise CliError("\n".join(f"{one} requires API version {needed}, but the Docker daemon API version is {spoken}" for one in what))
